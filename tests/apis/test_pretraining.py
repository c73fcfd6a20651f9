"""Pre-training from Python: the run of tools/train.py with the same settings."""

import json
import signal

import pytest
import torch

from finola_mm import extract_features, load_encoder, pretrain
from finola_mm.apis.config import CONFIGS
from finola_mm.apis.pretraining import find_recipe, length_of_run
from finola_mm.engine import SIGNALS, InterruptedRun, find_checkpoint, read_checkpoint
from finola_mm.errors import UserError
from tests.forks import run_script
from tests.messages import shows

SMALL = {
    'model.upsampler.depth': 1,
    'model.upsampler.embed_dim': 32,
    'model.upsampler.num_heads': 2,
    'default_hooks.logger.interval': 1,
}
OPTIONS = dict(batch_size=5, image_size=64, num_workers=0, options=SMALL)
CONFIG = """
_base_ = 'finola_mm::_base_/masked_finola_any.py'
model = dict(
    backbone=dict(type='finola_mm.MobileFormer', arch='small'),
    upsampler=dict(depth=1, embed_dim=32, num_heads=2),
)
folder = dict(data_root={root!r}, data_prefix='')
train_dataloader = dict(
    batch_size=5, num_workers=0, persistent_workers=False, dataset=dict(dataset=folder)
)
train_dataloader['dataset']['dataset']['pipeline'] = [
    dict(_base_.train_pipeline[0], scale=64), *_base_.train_pipeline[1:]
]
train_cfg = dict(max_epochs=2)
param_scheduler = [
    dict(_base_.param_scheduler[0], end=1), dict(_base_.param_scheduler[1], begin=1, end=2, T_max=1)
]
"""


def test_the_run_of_the_tool(image_folder, tmp_path):
    encoder = pretrain(image_folder / 'train', 'small', out=tmp_path / 'out', epochs=2, **OPTIONS)
    (tmp_path / 'own.py').write_text(CONFIG.format(root=str(image_folder / 'train')))
    command = ['tools/train.py', tmp_path / 'own.py', '--work-dir', tmp_path / 'tool']
    run_script(CONFIGS.parent / command[0], *command[1:], '--no-validate', '--auto-scale-lr')
    expected = load_encoder(tmp_path / 'tool')
    for name, tensor in expected.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], tensor), name
    assert encoder.input_size == 64 and encoder.arch == 'small'
    again = load_encoder(tmp_path / 'out/encoder.safetensors')
    images = image_folder / 'val'
    assert torch.equal(extract_features(again, images), extract_features(encoder, images))


def test_steps_and_resume(image_folder, tmp_path):
    """Three steps, interrupted after two, from published weights."""
    arguments = dict(OPTIONS, out=tmp_path, pretrained='masked_finola_b_shapes')
    for steps, resume in ((2, False), (3, True)):
        encoder = pretrain(image_folder, 'small', steps=steps, resume=resume, **arguments)
        assert encoder.metadata['iter'] == steps
    history = read_checkpoint(tmp_path / 'iter_3.pth')['message_hub']['log_scalars']
    assert len(history['train/loss'].data[0]) == 3
    start = load_encoder('masked_finola_b_shapes').state_dict()
    moved = [(encoder.state_dict()[key] - start[key]).abs().max() for key in start if 'conv' in key]
    assert all(0 <= float(distance) < 0.01 for distance in moved)


def test_validation(labelled_folder, tmp_path):
    """PSNR, kNN accuracy, RankMe and pictures of other images, which do not change training."""
    options = SMALL | {'default_hooks.knn.k': 2}
    arguments = dict(OPTIONS, options=options, steps=2)
    train, val = labelled_folder / 'train', labelled_folder / 'val'
    encoder = pretrain(train, 'small', val=val, out=tmp_path / 'a', **arguments)
    expected = pretrain(train, 'small', out=tmp_path / 'b', **arguments)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], tensor), name
    (log,) = (tmp_path / 'a').glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for name in ('masked/psnr', 'knn/top1', 'features/rankme'):
        assert [line['step'] for line in lines if name in line] == [1, 2], name
    assert len([*(tmp_path / 'a').glob('*/vis_data/vis_image/*.png')]) == 2
    with pytest.raises(UserError, match=shows(tmp_path / 'missing')):
        pretrain(train, 'small', val=tmp_path / 'missing', out=tmp_path / 'c', **arguments)


@pytest.mark.parametrize(
    ('backbone', 'stride', 'settings'),
    [
        ('W720', 16, dict(type='finola_mm.MobileFormer', arch='w720')),
        ('294m', 32, dict(type='finola_mm.MobileFormer', arch='294m')),
        ('timm:resnet18', 32, dict(model_name='resnet18', out_indices=(4,))),
        ('timm:convnext_tiny', 32, dict(model_name='convnext_tiny', out_indices=(3,))),
        (dict(type='mmpretrain.ResNet', depth=18, out_indices=(2,)), 16, dict(depth=18)),
    ],
    ids=str,
)
def test_the_recipe_fits_the_stride(backbone, stride, settings):
    config, found = find_recipe(backbone)
    assert config.stem == ('masked_finola_any' if stride == 16 else 'masked_finola_any_stride32')
    assert settings.items() <= found.items()


def test_named_recipes():
    assert find_recipe('resnet50_s32') == (CONFIGS / 'selfsup/any/resnet50_s32.py', {})


def test_schedules():
    """Warm-up and cosine cover the run without a gap."""
    for epochs, steps in ((1, None), (2, None), (100, None), (1600, None), (1, 1), (1, 1000)):
        settings = length_of_run(epochs, steps)
        schedule, length = settings['param_scheduler'], steps or epochs
        assert schedule[0]['begin'] == 0 and schedule[-1]['end'] == length
        for before, after in zip(schedule, schedule[1:], strict=False):
            assert before['end'] == after['begin'] and after['T_max'] == length - before['end']
        assert all(part['by_epoch'] == (steps is None) for part in schedule)


@pytest.mark.parametrize('length', [dict(steps=4), dict(epochs=8)])
def test_the_learning_rate_of_a_short_run(image_folder, tmp_path, length):
    """Warm-up ends at the whole rate, also with one step per epoch; scaled to the batch, or not."""
    for scaled in (True, False):
        options = SMALL | {'auto_scale_lr.enable': scaled, 'optim_wrapper.optimizer.lr': 1e-3}
        out = tmp_path / str(scaled)
        arguments = dict(batch_size=10, image_size=64, num_workers=0, options=options)
        pretrain(image_folder / 'train', 'small', out=out, **length, **arguments)
        hub = read_checkpoint(find_checkpoint(out))['message_hub']
        rates = hub['log_scalars']['train/lr'].data[0]
        assert max(rates) == pytest.approx(1e-3 * 10 / 1024 if scaled else 1e-3)


def test_refuses(image_folder, tmp_path):
    out = dict(out=tmp_path / 'out')
    for backbone, found in (
        ('resnet', 'resnet50_s32'),
        ('timm:resnet51', 'resnet50'),
        ('timm:deit_tiny_patch16_224', 16),
        (dict(type='mmpretrain.ResNet', depth=18, out_indices=(1,)), 8),
    ):
        with pytest.raises(UserError, match=shows(found)):
            pretrain(image_folder, backbone, **out)
    with pytest.raises(UserError, match=shows(tmp_path / 'missing')):
        pretrain(tmp_path / 'missing', 'small', **out)


def test_ctrl_c_leaves_the_handlers_of_the_process(image_folder, tmp_path, monkeypatch):
    """A tool ignores signals while it exits; a notebook continues to run."""

    def interrupted(cfg):
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise InterruptedRun

    before = [signal.getsignal(number) for number in SIGNALS]
    monkeypatch.setattr('finola_mm.apis.pretraining.train_from_cfg', interrupted)
    with pytest.raises(InterruptedRun):
        pretrain(image_folder / 'train', 'small', out=tmp_path, epochs=2, **OPTIONS)
    assert [signal.getsignal(number) for number in SIGNALS] == before
