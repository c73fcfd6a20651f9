"""Weights from addresses, and from a local copy of the Hugging Face Hub; nothing is downloaded."""

import http.server
import sys
import threading
from functools import partial

import pytest
import torch
from torch import hub

from finola_mm.apis import Encoder, extract_encoder, load_encoder
from finola_mm.apis.hub import find_weights
from finola_mm.errors import CheckpointError, UserError
from tests.conftest import ROOT
from tests.messages import shows
from tests.test_layering import run_blocked

NAME = 'masked_finola_b_shapes'
(FILE,) = (ROOT / 'demo').glob(f'{NAME}-*.safetensors')


@pytest.fixture
def encoder():
    return load_encoder(NAME)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty working directory and an empty cache of torch.hub."""
    monkeypatch.setattr(hub, '_hub_dir', str(tmp_path / 'cache'))
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    return tmp_path


@pytest.fixture
def offline(elsewhere, monkeypatch):
    """The folder of a repository user/encoder in an otherwise empty cache of the Hub."""
    constants = pytest.importorskip('huggingface_hub').constants
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(elsewhere / 'hub'))
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    repository = elsewhere / 'hub/models--user--encoder'
    (repository / 'refs').mkdir(parents=True)
    (repository / 'refs/main').write_text('0' * 40)
    return repository / 'snapshots' / ('0' * 40)


@pytest.fixture
def address(elsewhere, monkeypatch):
    """The address of a server for the folder served/, which contains encoder.safetensors."""
    monkeypatch.setenv('no_proxy', '*')
    (elsewhere / 'served').mkdir()
    (elsewhere / 'served/encoder.safetensors').write_bytes(FILE.read_bytes())
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=elsewhere / 'served')
    with http.server.HTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()


def same(ours, theirs):
    assert ours.metadata == theirs.metadata
    assert not any(module.training for module in ours.modules())
    ours, theirs = ours.state_dict(), theirs.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())


def test_local_address(encoder, tmp_path):
    file = tmp_path / 'with space.safetensors'
    file.write_bytes(FILE.read_bytes())
    assert find_weights(file.as_uri()) == str(file)
    same(load_encoder(file.as_uri()), encoder)
    with pytest.raises(CheckpointError, match=shows(tmp_path / 'no.pth')):
        load_encoder((tmp_path / 'no.pth').as_uri())


def test_address(encoder, elsewhere, address):
    """A second call downloads nothing; files of two addresses may have the same name."""
    url = f'{address}/encoder.safetensors'
    same(load_encoder(url), encoder)
    (elsewhere / 'served/encoder.safetensors').rename(elsewhere / 'served/moved.safetensors')
    same(load_encoder(url), encoder)
    other = f'{address}/other/encoder.safetensors'
    with pytest.raises(CheckpointError, match=shows(other, '404')):
        load_encoder(other)
    assert len(list((elsewhere / 'cache').rglob('*.safetensors'))) == 1


def test_a_hash_in_the_name_is_verified(elsewhere, address):
    wrong = 'encoder-0123456a.safetensors'
    (elsewhere / 'served' / wrong).write_bytes(FILE.read_bytes())
    with pytest.raises(CheckpointError, match=shows(f'{address}/{wrong}', '0123456a')):
        load_encoder(f'{address}/{wrong}')
    (elsewhere / 'served' / FILE.name).write_bytes(FILE.read_bytes())
    assert find_weights(f'{address}/{FILE.name}').endswith(FILE.name)
    (elsewhere / 'served/encoder-20240115.pth').write_bytes(b'')  # a date is no hash
    assert find_weights(f'{address}/encoder-20240115.pth').endswith('encoder-20240115.pth')


def test_hub_id(encoder, offline):
    encoder.save_pretrained(offline)
    same(load_encoder('user/encoder'), encoder)
    same(Encoder.from_pretrained('user/encoder'), encoder)
    with pytest.raises(CheckpointError, match=shows('user/other')):
        load_encoder('user/other')


def test_a_local_folder(encoder, elsewhere):
    """A whole encoder in one file, which every other function reads, and its card."""
    pytest.importorskip('huggingface_hub')
    encoder.save_pretrained('user/encoder')
    assert {path.name for path in (elsewhere / 'here/user/encoder').iterdir()} == {
        'README.md',
        'config.json',
        'model.safetensors',
    }
    for load in (load_encoder, Encoder.from_pretrained):
        same(load('user/encoder'), encoder)
    same(load_encoder('user/encoder/model.safetensors'), encoder)
    same(load_encoder(extract_encoder('user/encoder', 'copy.pth')), encoder)


def test_the_card(encoder):
    hub_package = pytest.importorskip('huggingface_hub')
    card = encoder.generate_model_card()
    assert card.data.library_name == 'finola_mm' and card.data.license == 'apache-2.0'
    assert 'masked_finola_b' in card.text and "'arch': 'small'" in card.text
    assert hub_package.ModelCard(card.content).data.to_dict() == card.data.to_dict()


def test_push_to_hub(encoder, elsewhere, monkeypatch):
    """The files that are uploaded are those of save_pretrained."""
    api = pytest.importorskip('huggingface_hub').HfApi
    uploaded = []

    def upload(self, *, repo_id, folder_path, **options):
        uploaded.append(repo_id)
        same(load_encoder(folder_path), encoder)

    monkeypatch.setattr(api, 'create_repo', lambda self, repo_id, **_: type('', (), vars())())
    monkeypatch.setattr(api, 'upload_folder', upload)
    encoder.push_to_hub('user/encoder')
    assert uploaded == ['user/encoder']


def test_without_huggingface_hub(elsewhere, monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(UserError, match=shows('user/encoder', 'huggingface_hub>=0.30')):
        load_encoder('user/encoder')


@pytest.mark.parametrize('version', [None, '0.29'])
def test_encoders_without_huggingface_hub(version):
    """The rest of the package works; its methods name what is missing, or too old."""
    code = f"""
if {version!r}:  # a version whose ModelHubMixin takes no paper_url
    import sys, types
    class ModelHubMixin:
        def __init_subclass__(cls, *, library_name=None, license=None): pass
    module = types.ModuleType('huggingface_hub')
    module.ModelHubMixin = ModelHubMixin
    sys.modules['huggingface_hub'] = module
from finola_mm.apis import load_encoder
from finola_mm.errors import UserError
encoder = load_encoder({NAME!r})
for call in encoder.save_pretrained, encoder.push_to_hub, type(encoder).from_pretrained:
    try:
        call('folder')
    except UserError as error:
        assert 'huggingface_hub>=0.30' in str(error)
    else:
        raise AssertionError(call)
"""
    run_blocked(code, *([] if version else ['huggingface_hub']))


def test_a_file_name_is_no_hub_id(elsewhere, monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    (elsewhere / 'here/demo').mkdir()
    with pytest.raises(CheckpointError, match=shows('demo/encoder')):
        load_encoder('demo/encoder')
