"""Small image folders and a tiny pre-training config that several tests share."""

import gc
import os
import signal
import sys
from pathlib import Path

# Set before torch reads it; inherited by the processes of tests. On tensors this small, several
# threads are slower than one.
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')  # waiting threads sleep

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.utils import ManagerMixin, digit_version
from PIL import Image
from torch.utils.data import _utils

ROOT = Path(__file__).parents[1]
CLASSES = 6  # of the labelled folder
# Before torch 2.4, its store crashes with Python 3.12.
TORCHRUN_WORKS = sys.version_info < (3, 12) or hasattr(torch, 'get_autocast_dtype')
# With onnxscript 0.7, torch 2.6 exports neither dynamic sizes nor a ResNet; 2.11 does.
needs_new_exporter = pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.11'),
    reason='torch 2.6 cannot export it to ONNX',
)

# In the background of a shell SIGINT is ignored, and processes of tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Seconds until a data worker that does not exit is killed. When a run is garbage-collected, its
# workers are not told to exit, and each would delay the next test by torch's default of 5 s.
_utils.MP_STATUS_CHECK_INTERVAL = 0.1


def forget_runs(manager=ManagerMixin) -> None:
    """Close and remove MMEngine's loggers, message hubs and visualizers of earlier runs.

    MMEngine looks them up by the name of the run, which contains its start in seconds. Two runs of
    one config within a second would share a log file.
    """
    for kind in manager.__subclasses__():
        forget_runs(kind)
        if kind is DefaultScope:  # its newest instance is in use by the fixtures of a file
            continue
        for instance in kind._instance_dict.values():
            for handler in getattr(instance, 'handlers', []):
                handler.close()
            getattr(instance, 'close', lambda: None)()
        kind._instance_dict.clear()


@pytest.fixture(scope='module', autouse=True)
def no_default_scope():
    """Start every file without a default scope, regardless of the files before it."""
    DefaultScope._instance_dict.clear()


@pytest.fixture(scope='module', autouse=True)
def frozen_heap():
    """Exclude existing objects from garbage collection.

    MMEngine collects for every data set that it builds; traversing all imported packages is slow.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_earlier_runs():
    """Remove the traces of earlier runs, including their signal handlers."""
    forget_runs()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def project_root(monkeypatch) -> Path:
    """Make the checkout the working directory: paths of configs and tools are relative to it."""
    monkeypatch.chdir(ROOT)
    return ROOT


@pytest.fixture(scope='session')
def image_folder(tmp_path_factory) -> Path:
    """An ImageNet-style root of smooth random images: train/ with two classes, val/ without."""
    root = tmp_path_factory.mktemp('imagenet')
    rng = np.random.default_rng(0)
    for name, count in (('train/cat', 5), ('train/dog', 5), ('val', 4)):
        (root / name).mkdir(parents=True)
        for i in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
            coarse.resize((90, 70), Image.Resampling.BICUBIC).save(root / name / f'{i}.jpg')
    return root


@pytest.fixture(scope='session')
def labelled_folder(tmp_path_factory):
    """An ImageNet-style root with 6 classes, each of a colour: 3 images to train on, 2 to test."""
    root = tmp_path_factory.mktemp('labelled')
    rng = np.random.default_rng(0)
    colours = rng.integers(40, 216, (CLASSES, 1, 1, 3))
    for label in range(CLASSES):
        for split, count in (('train', 3), ('val', 2)):
            folder = root / split / f'class_{label}'
            folder.mkdir(parents=True)
            for i in range(count):
                image = (colours[label] + rng.integers(-40, 40, (56, 56, 3))).astype(np.uint8)
                Image.fromarray(image).save(folder / f'{i}.png')
    return root


def tiny_options(root: Path) -> list[str]:
    """Return ``--cfg-options`` that reduce the demo's config to two steps of batch size 2."""
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


@pytest.fixture
def smooth_images():
    """30 + 5 images of 16 x 16: smooth colours and some noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(35, 3, 3, 3, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=16, mode='bilinear')
    noise = 0.05 * torch.randn(smooth.shape, generator=generator)
    return (smooth + noise).clamp(0, 1).split([30, 5])
