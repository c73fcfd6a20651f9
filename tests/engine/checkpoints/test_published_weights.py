"""Published weights are found by name, and only the published file is accepted."""

import pytest
from torch import hub

from finola_mm.engine import CheckpointError, find_checkpoint, read_checkpoint
from finola_mm.engine.checkpoints import published_weights
from tests.conftest import ROOT
from tests.messages import shows

NAME = 'mocov2_shapes'
(FILE,) = (ROOT / 'demo').glob(f'{NAME}-*.safetensors')


@pytest.fixture
def without_files(monkeypatch, tmp_path):
    """An installation without weights, an empty cache, and an empty working directory."""
    monkeypatch.setattr(published_weights, 'FOLDERS', ())
    monkeypatch.setattr(hub, '_hub_dir', str(tmp_path / 'cache'))
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')


def test_every_file_of_demo_has_a_name(monkeypatch):
    monkeypatch.delenv('FINOLA_WEIGHTS', raising=False)
    found = {published_weights.find_published(name) for name in published_weights.PUBLISHED}
    assert {file.resolve() for file in found} == set((ROOT / 'demo').glob('*.safetensors'))


def test_folder(without_files, monkeypatch):
    monkeypatch.setenv('FINOLA_WEIGHTS', str(FILE.parent))
    assert find_checkpoint(NAME) == str(FILE)
    assert read_checkpoint(NAME)['meta'] == read_checkpoint(FILE)['meta']


def test_address(without_files, monkeypatch, tmp_path):
    """A second call needs no address."""
    monkeypatch.setenv('FINOLA_WEIGHTS', FILE.parent.as_uri())
    file = tmp_path / 'cache/checkpoints' / FILE.name
    assert find_checkpoint(NAME) == str(file) and file.read_bytes() == FILE.read_bytes()
    monkeypatch.setenv('FINOLA_WEIGHTS', (tmp_path / 'nowhere').as_uri())
    assert find_checkpoint(NAME) == str(file)
    with pytest.raises(CheckpointError, match=shows('finola_photos', 'nowhere', 'FINOLA_WEIGHTS')):
        find_checkpoint('finola_photos')


def test_missing(without_files, monkeypatch, tmp_path):
    monkeypatch.setenv('FINOLA_WEIGHTS', str(tmp_path))
    with pytest.raises(CheckpointError, match=shows(FILE.name, 'FINOLA_WEIGHTS', str(tmp_path))):
        find_checkpoint(NAME)


@pytest.mark.parametrize('as_address', [False, True])
def test_another_file_is_refused(without_files, monkeypatch, tmp_path, as_address):
    (tmp_path / FILE.name).write_bytes(FILE.read_bytes()[:-1])
    monkeypatch.setenv('FINOLA_WEIGHTS', tmp_path.as_uri() if as_address else str(tmp_path))
    with pytest.raises(CheckpointError, match=shows(FILE.name)):
        find_checkpoint(NAME)
    assert not (tmp_path / 'cache/checkpoints' / FILE.name).exists()


def test_a_path_comes_first(without_files, tmp_path):
    (tmp_path / 'here' / NAME).write_bytes(b'')
    assert find_checkpoint(NAME) == NAME


def test_a_misspelt_name_lists_the_names(without_files):
    with pytest.raises(CheckpointError, match=shows('mocov2_shap', *published_weights.PUBLISHED)):
        find_checkpoint('mocov2_shap')
