"""From a run to files of weights, and all ways to load them."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmdet.apis import DetInferencer
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from mmpretrain.apis import ImageClassificationInferencer, get_model
from safetensors import safe_open

from finola_mm import MobileFormer, load_encoder
from finola_mm.engine import (
    load_weights,
    read_checkpoint,
    register_checkpoint_io,
    write_weights,
)
from finola_mm.registry import MODELS
from tests.conftest import tiny_options
from tests.forks import run_script
from tests.messages import shows
from tests.tools import small_detector

CONFIG = 'configs/demo/masked_finola_b.py'
EXTRACT = 'tools/model_converters/extract_backbone.py'
PUBLISH = 'tools/model_converters/publish_model.py'


def train(*args, expect=0):
    return run_script('tools/train.py', CONFIG, *args, expect=expect)


@pytest.fixture(scope='module')
def trained(tmp_path_factory, image_folder):
    """A work directory after two steps with averaged weights, which lag far behind."""
    work_dir = tmp_path_factory.mktemp('work') / 'run'
    train(
        '--work-dir',
        work_dir,
        '--no-validate',
        '--cfg-options',
        *tiny_options(image_folder),
        'default_hooks.ema.type=EMAHook',
    )
    return work_dir


@pytest.fixture
def call(project_root, monkeypatch, capsys):
    """Run a tool in this process; return its output."""

    def call(script, *args):
        monkeypatch.setattr(sys, 'argv', [script, *map(str, args)])
        runpy.run_path(script, run_name='__main__')
        return capsys.readouterr().out

    return call


@pytest.fixture
def averaged(trained):
    """The encoder's tensors in the checkpoint's state_dict."""
    state = read_checkpoint(trained / 'iter_2.pth')['state_dict']
    start = 'backbone.'
    return {key[len(start) :]: state[key] for key in state if key.startswith(start)}


def features(encoder):
    torch.manual_seed(0)
    with torch.no_grad():
        return encoder.eval()(torch.randn(2, 3, 64, 64))[0]


def by_load_weights(file):
    encoder = MobileFormer('small')
    load_weights(encoder, file)
    return encoder


def by_init_cfg(file):
    encoder = MobileFormer(
        'small', init_cfg=dict(type='finola_mm.Pretrained', checkpoint=str(file))
    )
    encoder.init_weights()
    return encoder


def by_mmengine(file):
    """MMEngine's initialiser, which reads .safetensors files by our reader."""
    register_checkpoint_io()
    encoder = MobileFormer('small', init_cfg=dict(type='Pretrained', checkpoint=str(file)))
    encoder.init_weights()
    return encoder


def by_mmpretrain(file):
    classifier = get_model(
        Config(
            dict(
                model=dict(
                    type='mmpretrain.ImageClassifier',
                    backbone=dict(
                        type='finola_mm.MobileFormer',
                        arch='small',
                        init_cfg=dict(type='finola_mm.Pretrained', checkpoint=str(file)),
                    ),
                    neck=dict(type='mmpretrain.GlobalAveragePooling'),
                    head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=256),
                )
            )
        )
    )
    classifier.init_weights()
    return classifier.backbone


WAYS = [load_encoder, by_load_weights, by_init_cfg, by_mmengine, by_mmpretrain]


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_round_trip_of_the_encoder(call, trained, averaged, tmp_path, suffix):
    file = tmp_path / f'encoder{suffix}'
    said = call(EXTRACT, trained, file)
    assert re.search(shows(194, file), said.splitlines()[0]) and "'dynamic_relu': 'plain'" in said
    plain = MobileFormer('small')
    plain.load_state_dict(averaged)
    expected = features(plain)
    for way in WAYS:
        assert torch.equal(features(way(file)), expected), way.__name__
    lagging = {
        key: value
        for key, value in read_checkpoint(trained / 'iter_2.pth')['ema_state_dict'].items()
        if key.startswith('module.backbone.')
    }
    assert not torch.equal(lagging['module.backbone.tokens'], averaged['tokens'])


def test_content_of_a_pth_file(call, trained, averaged, tmp_path):
    call(EXTRACT, trained / 'iter_2.pth', tmp_path / 'encoder.pth')
    content = torch.load(tmp_path / 'encoder.pth', weights_only=True)
    encoder = MobileFormer('small')
    encoder.load_state_dict(content['state_dict'])
    meta = content['meta']
    assert meta.pop('finola_mm_version') and meta['widths'].pop('stages')[0] == [[64, 48]]
    assert meta == dict(
        format_version=1,
        part='encoder',
        source='masked_finola_b',
        epoch=0,
        iter=2,
        encoder=dict(arch='small', type='finola_mm.MobileFormer', dynamic_relu='plain'),
        parameters=sum(parameter.numel() for parameter in encoder.parameters()),
        widths=dict(tokens=[6, 64], stem=32, out=256),
        normalization=dict(
            mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
        ),
        input_size=128,
    )


def test_safetensors_read_by_its_own_package(call, trained, averaged, tmp_path):
    """Written from the extracted .pth file."""
    call(EXTRACT, trained, tmp_path / 'encoder.pth')
    call(EXTRACT, tmp_path / 'encoder.pth', tmp_path / 'encoder.safetensors')
    with safe_open(tmp_path / 'encoder.safetensors', framework='pt') as file:
        assert set(file.keys()) == set(averaged)
        assert all(torch.equal(file.get_tensor(key), averaged[key]) for key in averaged)
        meta = json.loads(file.metadata()['meta'])
    assert meta == read_checkpoint(tmp_path / 'encoder.pth')['meta']


def test_publish(call, trained, averaged, tmp_path):
    call(PUBLISH, trained, tmp_path / 'model.pth')
    (file,) = tmp_path.iterdir()
    digest = subprocess.check_output(['sha256sum', file], text=True)[:8]
    assert file.name == f'model-{digest}.pth'
    content = torch.load(file, weights_only=True)
    assert content.keys() == {'meta', 'state_dict'} and 'cfg' not in content['meta']
    assert file.stat().st_size < (trained / 'iter_2.pth').stat().st_size / 3

    cfg = Config.fromfile(CONFIG)
    cfg.model.upsampler.depth = 1
    init_default_scope('mmpretrain')
    ours, hosts = MODELS.build(cfg.model), MODELS.build(cfg.model)
    load_weights(ours, file, allow_unused=False)
    load_checkpoint(hosts, str(file), strict=True)
    state = read_checkpoint(trained / 'iter_2.pth')['state_dict']
    for model in (ours, hosts):
        assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert torch.equal(features(by_load_weights(file)), features(ours.backbone))


@small_detector.host_inferencer
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_a_published_detector_knows_its_classes(call, tmp_path, suffix):
    """Those of its training, in mmdet's inferencer; not COCO's, nor the config's."""
    names = tuple(f'name {i}' for i in range(12))
    palette = [(i, 2 * i, 3 * i) for i in range(12)]
    checkpoint = torch.load(small_detector.write_checkpoint(tmp_path / 'run.pth', ()))
    checkpoint['meta']['dataset_meta'] = dict(classes=names, palette=palette, more=['x'])
    torch.save(checkpoint, tmp_path / 'run.pth')
    said = call(PUBLISH, tmp_path / 'run.pth', tmp_path / f'model{suffix}')
    assert 'classes: name 0, name 1, name 2 and 9 more' in said
    (file,) = tmp_path.glob(f'model-*{suffix}')
    register_checkpoint_io()
    inferencer = DetInferencer(small_detector.CONFIG, str(file), show_progress=False)
    assert tuple(inferencer.model.dataset_meta['classes']) == names
    meta = read_checkpoint(file)['meta']
    assert meta['dataset_meta'] == dict(classes=list(names), palette=list(map(list, palette)))
    call(PUBLISH, file, tmp_path / f'again{suffix}')
    assert read_checkpoint(*tmp_path.glob(f'again-*{suffix}'))['meta'] == meta


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_a_published_classifier_knows_its_classes(call, project_root, tmp_path, suffix):
    config = 'configs/demo/cls_lin.py'
    init_default_scope('mmpretrain')
    model, names = get_model(config), tuple('abcdefghijkl')
    meta = dict(dataset_meta=dict(classes=names))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / 'run.pth')
    call(PUBLISH, tmp_path / 'run.pth', tmp_path / f'model{suffix}')
    (file,) = tmp_path.glob(f'model-*{suffix}')
    register_checkpoint_io()
    loaded = get_model(config, pretrained=str(file))
    assert tuple(ImageClassificationInferencer(loaded).classes) == names
    state = model.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in loaded.state_dict().items())


def test_train_from_the_encoder(call, trained, averaged, image_folder, tmp_path):
    """With a learning rate of 0, the parameters are unchanged after two steps."""
    file = tmp_path / 'encoder.safetensors'
    call(EXTRACT, trained, file)
    said = train(
        '--work-dir',
        tmp_path / 'run',
        '--no-validate',
        '--pretrained',
        file,
        '--cfg-options',
        *tiny_options(image_folder),
        'optim_wrapper.optimizer.lr=0.0',
    )
    lines = said.replace(str(file), 'FILE').splitlines()
    (loaded,) = (line for line in lines if line.count('194') == 2)
    assert re.search(shows('MobileFormer', 'small', 'FILE', 'masked_finola_b'), loaded)
    state = read_checkpoint(tmp_path / 'run/iter_2.pth')['state_dict']
    for key, _ in MobileFormer('small').named_parameters():
        assert torch.equal(state['backbone.' + key], averaged[key]), key


def test_a_model_is_not_trained_from_its_encoder_alone(trained, image_folder, tmp_path, call):
    file = tmp_path / 'encoder.pth'
    call(EXTRACT, trained, file)
    said = train(
        '--work-dir',
        tmp_path / 'run',
        '--no-validate',
        '--cfg-options',
        *tiny_options(image_folder),
        f'load_from={file}',
        expect=1,
    )
    last = said.splitlines()[-1]
    assert re.search(shows('train: ', file, 'masked_finola_b', 'MaskedFINOLA'), last)
    assert re.search(r'\b2\b', last.replace(str(file), '')), 'the iteration'
    assert 'tools/train.py --pretrained' in last
    assert 'Traceback' not in said


@pytest.mark.parametrize('tool', [EXTRACT, PUBLISH])
def test_mistakes_end_in_one_line(call, tmp_path, tool):
    torn, bare = tmp_path / 'torn.pth', tmp_path / 'bare.pth'
    torn.write_bytes(b'')
    write_weights(bare, dict(a=torch.ones(1)), meta={})
    for args, values in [
        (['nowhere.pth', 'out.pth'], ['nowhere.pth']),
        ([torn, tmp_path / 'out.pth'], [torn, 'torch.save']),
        (
            [bare, tmp_path / 'out.txt'],
            ['out.txt', '.pth', '.safetensors'] if tool == PUBLISH else [bare, 'meta.encoder'],
        ),
    ]:
        with pytest.raises(SystemExit, match=shows(*values)):
            call(tool, *args)


def test_extract_twice(call, trained, tmp_path):
    file = tmp_path / 'encoder.pth'
    call(EXTRACT, trained, file)
    with pytest.raises(SystemExit, match=shows(file, '--force')):
        call(EXTRACT, trained, file)
    call(EXTRACT, trained, file, '--force')


def test_extract_into_itself(call, trained):
    file = Path((trained / 'last_checkpoint').read_text())
    with pytest.raises(SystemExit, match=shows(file)):
        call(EXTRACT, trained, file, '--force')
    assert 'optimizer' in torch.load(file, weights_only=False)


def test_metadata_of_another_encoder(call, trained, tmp_path):
    changed(trained, tmp_path / 'w.pth', arch='w720')
    with pytest.raises(SystemExit, match=shows(tmp_path / 'w.pth', 'w720', 'stages.1.1.')):
        call(EXTRACT, tmp_path / 'w.pth', tmp_path / 'out.pth')


def changed(trained, file, **encoder):
    """Write the run's checkpoint with other metadata."""
    checkpoint = read_checkpoint(trained / 'iter_2.pth')
    checkpoint['meta']['encoder'].update(encoder)
    torch.save(checkpoint, file)
    return file


def test_the_metadata_names_no_function_to_call(call, trained, tmp_path):
    made = tmp_path / 'made'
    file = changed(trained, tmp_path / 'w.pth', type='os.mkdir', path=str(made))
    with pytest.raises(SystemExit, match=shows('os.mkdir')):
        call(EXTRACT, file, tmp_path / 'out.pth')
    assert not made.exists()


def test_a_checkpoint_without_metadata(call, trained, averaged, tmp_path):
    """MMEngine's own: it can be published and loaded, but no encoder can be built from it."""
    checkpoint, file = read_checkpoint(trained / 'iter_2.pth'), tmp_path / 'w.pth'
    del checkpoint['meta']['encoder']
    torch.save(checkpoint, file)
    with pytest.raises(SystemExit, match=shows(file, 'AtomicCheckpointHook')):
        call(EXTRACT, file, tmp_path / 'out.pth')
    assert torch.equal(features(by_load_weights(file)), features(load_encoder(trained)))
    call(PUBLISH, file, tmp_path / 'model.pth')
    (file,) = tmp_path.glob('model-*.pth')
    assert 'encoder' not in read_checkpoint(file)['meta']


def test_publish_an_encoder(call, trained, tmp_path):
    call(EXTRACT, trained, tmp_path / 'encoder.pth')
    call(PUBLISH, tmp_path / 'encoder.pth', tmp_path / 'published.safetensors')
    (file,) = tmp_path.glob('published-*.safetensors')
    assert read_checkpoint(file)['meta']['part'] == 'encoder'
    assert torch.equal(features(load_encoder(file)), features(load_encoder(trained)))


@pytest.mark.parametrize('tool', [EXTRACT, PUBLISH])
def test_an_incomplete_encoder(call, trained, tmp_path, tool):
    checkpoint = read_checkpoint(trained / 'iter_2.pth')
    del checkpoint['state_dict']['backbone.dynamic_relu_form']
    torch.save(checkpoint, tmp_path / 'w.pth')
    with pytest.raises(SystemExit, match=shows(tmp_path / 'w.pth', 'dynamic_relu_form')):
        call(tool, tmp_path / 'w.pth', tmp_path / 'out.pth')
    file = changed(trained, tmp_path / 'v.pth', arch='huge')
    with pytest.raises(SystemExit, match=shows(file, 'arch', 'huge', 'w720')):
        call(tool, file, tmp_path / 'out.pth')
