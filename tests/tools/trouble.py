"""Runs with several ranks in which one rank fails or receives a signal at a given step."""

import atexit
import os
import subprocess
import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from torch import nn

from finola_mm.backbones import MobileFormer
from finola_mm.engine import InterruptionHook
from tests.conftest import ROOT


class TroubleHook(Hook):
    """Strike on one rank after step ``iteration``, counted from 1."""

    def __init__(self, *, iteration: int, rank: int = 0):
        self.iteration, self.rank = iteration, rank

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if (runner.iter + 1, get_rank()) == (self.iteration, self.rank):
            self.strike(runner)


class Run(TroubleHook):
    """Run a shell command that sends a signal to this process, and wait for the signal."""

    def __init__(self, command: str, **where: int):
        super().__init__(**where)
        self.command = command

    def strike(self, runner):
        subprocess.run(self.command.format(parent=os.getppid()), shell=True)
        (hook,) = (hook for hook in runner.hooks if isinstance(hook, InterruptionHook))
        waited = time.monotonic() + 60
        while not hook.received and time.monotonic() < waited:
            time.sleep(0.05)


class CountThreads(Hook):
    """Write the number of threads of this process at its exit to a file."""

    def before_run(self, runner):
        path = Path(runner.work_dir, f'threads_{get_rank()}')
        atexit.register(lambda: path.write_text(str(len(os.listdir('/proc/self/task')))))


class WithUnused(MobileFormer):
    """An encoder with a layer that its forward pass does not use."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.unused = nn.Linear(3, 3)


def write_config(path: Path, images: Path, **trouble) -> Path:
    """Write a config of the demo's pre-training with an average of the weights; return its path.

    With two ranks and the 10 images of ``image_folder``, it trains 8 steps in 4 epochs.
    trouble: a hook of this file, as ``type='Run'`` and its arguments.
    """
    cfg = Config.fromfile(ROOT / 'configs/demo/masked_finola_b.py')
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=2, num_workers=1, persistent_workers=True)
        loader.dataset.dataset.data_root = str(images)
    cfg.train_dataloader.sampler.type = 'finola_mm.SeededSampler'
    cfg.model.upsampler.depth = 1
    cfg.train_cfg = dict(type='finola_mm.ExactEpochLoop', max_epochs=4, val_interval=5)
    cfg.log_processor.by_epoch = True
    cfg.param_scheduler = dict(type='CosineAnnealingLR', T_max=8, by_epoch=False, end=8)
    cfg.default_hooks.checkpoint.update(interval=4, by_epoch=True)
    cfg.default_hooks.logger.interval = 1
    cfg.custom_hooks += [dict(type='EMAHook'), dict(type=f'{__name__}.CountThreads')]
    if trouble:
        cfg.custom_hooks += [{**trouble, 'type': f'{__name__}.{trouble["type"]}'}]
    cfg.dump(path)
    return path


def assert_same_run(file: Path, other: Path) -> None:
    """Compare weights, averages, optimizer and schedule of two checkpoints bit by bit."""
    one, two = (torch.load(name, weights_only=False) for name in (file, other))
    for part in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'):
        _assert_equal(one[part], two[part])
    for count in ('epoch', 'iter'):
        assert one['meta'][count] == two['meta'][count]


def _assert_equal(one, two) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    elif isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            _assert_equal(one[key], two[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(two)
        for pair in zip(one, two, strict=True):
            _assert_equal(*pair)
    else:
        assert one == two
