"""FSDP on two CPU processes: the losses and weights of DDP, whole checkpoints, an exact resume."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from mmengine.config import Config

from finola_mm.engine import (
    CheckpointError,
    ResumableFSDPStrategy,
    check_sharded,
    read_checkpoint,
)
from tests.conftest import ROOT
from tests.forks import run_script
from tests.messages import shows

STEPS = 4


def write_config(path, name, images, **trouble):
    """A recipe at 64 x 64 with the small encoder: 2 epochs of the 10 images, 2 steps each."""
    cfg = Config.fromfile(ROOT / f'configs/selfsup/{name}.py')
    cfg.model.backbone.arch, cfg.model.neck.channels = 'small', 256
    cfg.model.upsampler.update(in_channels=256, embed_dim=48, depth=1, num_heads=3)
    loader = cfg.train_dataloader
    loader.update(batch_size=2, num_workers=0, persistent_workers=False, pin_memory=False)
    loader.dataset.dataset.data_root = str(images)
    loader.dataset.dataset.pipeline[0].scale = 64
    cfg.train_cfg.max_epochs = 2
    cfg.param_scheduler = dict(type='CosineAnnealingLR', T_max=STEPS, by_epoch=False, end=STEPS)
    cfg.default_hooks.checkpoint.interval = 2
    cfg.default_hooks.logger.interval = 1
    cfg.log_processor = dict(window_size=1)
    cfg.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    cfg.custom_hooks += [trouble] if trouble else []
    cfg.dump(path)
    return path


def train(config, work_dir, *args, expect=0):
    """tools/train.py as two processes; -> what the first one said."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])

    def process(rank):
        return run_script(
            ROOT / 'tools/train.py',
            config,
            '--launcher',
            'pytorch',
            '--no-validate',
            '--work-dir',
            work_dir,
            *args,
            expect=expect,
            RANK=rank,
            LOCAL_RANK=rank,
            WORLD_SIZE='2',
            MASTER_ADDR='127.0.0.1',
            MASTER_PORT=port,
            OMP_NUM_THREADS='1',
        )

    with ThreadPoolExecutor(2) as both:
        said, _ = both.map(process, '01')
        return said


def losses(work_dir):
    (scalars,) = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line)['loss'] for line in scalars.read_text().splitlines()]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('sharded')


@pytest.fixture(scope='module')
def sharded(folder, image_folder):
    """The last checkpoint of an uninterrupted run with FSDP."""
    train(write_config(folder / 'fsdp.py', 'masked_finola_b_fsdp', image_folder), folder / 'fsdp')
    return read_checkpoint(folder / 'fsdp/epoch_2.pth')


def test_it_is_the_run_of_ddp(folder, image_folder, sharded):
    train(write_config(folder / 'ddp.py', 'masked_finola_b', image_folder), folder / 'ddp')
    expected = losses(folder / 'ddp')
    assert len(expected) == STEPS and len(set(expected)) == STEPS
    assert losses(folder / 'fsdp') == pytest.approx(expected, rel=1e-5)
    whole = read_checkpoint(folder / 'ddp/epoch_2.pth')
    torch.testing.assert_close(sharded['state_dict'], whole['state_dict'])
    # Of all parameters, by their names.
    assert len(sharded['optimizer']['state']) == len(whole['optimizer']['state']) > 100


def test_interrupted_and_resumed(folder, image_folder, sharded):
    stopped = write_config(
        folder / 'stopped.py',
        'masked_finola_b_fsdp',
        image_folder,
        type='tests.tools.trouble.Run',
        iteration=1,
        rank=1,
        command='kill -TERM $PPID',
    )
    said = train(stopped, folder / 'stopped', expect=75)
    (saved,) = (line for line in said.splitlines() if 'SIGTERM' in line)
    assert 'interrupted.pth' in saved
    assert read_checkpoint(folder / 'stopped/interrupted.pth')['meta']['iter'] == 1
    train(folder / 'fsdp.py', folder / 'stopped', '--resume')
    resumed = read_checkpoint(folder / 'stopped/epoch_2.pth')
    exactly = dict(rtol=0, atol=0)
    torch.testing.assert_close(resumed['state_dict'], sharded['state_dict'], **exactly)
    for part in ('state', 'base_param_settings'):
        torch.testing.assert_close(
            resumed['optimizer'][part], sharded['optimizer'][part], **exactly
        )
    assert resumed['param_schedulers'] == sharded['param_schedulers']


def test_a_checkpoint_without_fsdp():
    with pytest.raises(CheckpointError, match=shows('FSDP', 'load_from')):
        ResumableFSDPStrategy.load_optim_state_dict(None, dict(state={0: {}}, param_groups=[]))


def test_load_from(folder, sharded):
    """All weights of the file; without a rate they stay, but for the statistics of BatchNorm."""
    said = train(
        folder / 'fsdp.py',
        folder / 'loaded',
        '--cfg-options',
        'optim_wrapper.optimizer.lr=0',
        f'load_from={folder / "fsdp/epoch_2.pth"}',
    )
    lines = said.replace(str(folder), '').splitlines()
    (line,) = (line for line in lines if line.count('216') == 2)
    assert 'MaskedFINOLA' in line and 'fsdp/epoch_2.pth' in line
    loaded = read_checkpoint(folder / 'loaded/epoch_2.pth')['state_dict']
    for name, tensor in sharded['state_dict'].items():
        if not name.endswith(('running_mean', 'running_var', 'num_batches_tracked')):
            assert torch.equal(loaded[name], tensor), name


@pytest.mark.parametrize(
    ('settings', 'value'),
    [
        (dict(launcher='none'), 'tools/dist_train.sh'),
        (dict(custom_hooks=[dict(type='EMAHook')]), 'EMAHook'),
        (dict(default_hooks=dict(knn=dict(type='finola_mm.KNNHook'))), 'KNNHook'),
        (dict(sync_bn='torch'), 'sync_bn'),
        (dict(optim_wrapper=dict(clip_grad=dict(max_norm=1))), 'optim_wrapper.clip_grad'),
    ],
)
def test_what_does_not_go_with_it(settings, value):
    cfg = Config.fromfile(ROOT / 'configs/selfsup/masked_finola_b_fsdp.py')
    cfg.launcher = 'pytorch'
    check_sharded(cfg)
    cfg.merge_from_dict(settings)
    with pytest.raises(ValueError, match=shows('masked_finola_b_fsdp.py', value)):
        check_sharded(cfg)
