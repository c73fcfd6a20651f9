"""Small image folders and a tiny pre-training config that several tests share."""

import gc
import os
import signal
from pathlib import Path

# Before anything reads it, and for the processes of tests as well. To share tensors as small as
# these among threads takes longer than to compute them, many times so where a core is busy.
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')  # those there are do not wait in a loop

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from mmengine.utils import ManagerMixin
from PIL import Image
from torch.utils.data import _utils

ROOT = Path(__file__).parents[1]

# A shell ignores Ctrl-C for what it starts in the background, and so would all processes of tests.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Seconds until a worker is killed that does not leave. Where the garbage collector takes a run, it
# takes first what would tell the workers, and the next test waited five seconds for each. So no
# test here sees a worker that hangs.
_utils.MP_STATUS_CHECK_INTERVAL = 0.1


def forget_runs(manager=ManagerMixin) -> None:
    """Close and drop what MMEngine keeps of earlier runs: loggers, message hubs, visualizers.

    It finds them by the name of the run, which ends in the second of its start: two runs of one
    config within a second would share a log file.
    """
    for kind in manager.__subclasses__():
        forget_runs(kind)
        if kind is DefaultScope:  # the last one is in force, in fixtures of a file, too
            continue
        for instance in kind._instance_dict.values():
            for handler in getattr(instance, 'handlers', []):
                handler.close()
            getattr(instance, 'close', lambda: None)()
        kind._instance_dict.clear()


@pytest.fixture(scope='module', autouse=True)
def no_default_scope():
    """What a file finds does not depend on the files before it, which are others in each run."""
    DefaultScope._instance_dict.clear()


@pytest.fixture(scope='module', autouse=True)
def frozen_heap():
    """Keep the garbage collector off what is there already.

    MMEngine calls it for every data set that it builds, and to go through the host packages and
    what earlier modules cache costs half a second each time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_earlier_runs():
    """Nor the signals that a run has set aside, which ended because of one."""
    forget_runs()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def project_root(monkeypatch) -> Path:
    """The checkout, as the working directory: configs and tools are named relative to it."""
    monkeypatch.chdir(ROOT)
    return ROOT


@pytest.fixture(scope='session')
def image_folder(tmp_path_factory) -> Path:
    """An ImageNet-style root: train/ with two class folders, val/ flat; smooth random colours."""
    root = tmp_path_factory.mktemp('imagenet')
    rng = np.random.default_rng(0)
    for name, count in (('train/cat', 5), ('train/dog', 5), ('val', 4)):
        (root / name).mkdir(parents=True)
        for i in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
            coarse.resize((90, 70), Image.Resampling.BICUBIC).save(root / name / f'{i}.jpg')
    return root


def tiny_options(root: Path) -> list[str]:
    """``--cfg-options`` that shrink the demo's config to two steps of two images of ``root``."""
    return [
        f'{split}_dataloader.{key}'
        for split in ('train', 'val', 'test')
        for key in (
            f'dataset.dataset.data_root={root}',
            'batch_size=2',
            'num_workers=0',
            'persistent_workers=False',
        )
    ] + [
        'train_cfg.max_iters=2',
        'train_cfg.val_interval=2',
        'model.upsampler.depth=1',
        'default_hooks.checkpoint.interval=2',
        'default_hooks.logger.interval=1',
    ]
