"""Images in many formats go through the pipelines of a pre-training config.

The training pipeline is tested with both ways to load a random crop, mmpretrain's and ours.
"""

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS
from PIL import Image

import finola_mm.selfsup  # noqa: F401

CONFIG = 'configs/selfsup/masked_finola_b.py'


def ramp(height, width, channels=3):
    """A smooth image whose brightness increases from 60 at the top to 180 at the bottom."""
    rows = np.linspace(60, 180, height, dtype=np.uint8)[:, None]
    return np.stack([np.broadcast_to(rows, (height, width))] * channels, -1)


def small(path):
    Image.fromarray(ramp(20, 9)).save(path)


def grey(path):
    Image.fromarray(ramp(60, 80, 1)[..., 0]).save(path)


def cmyk(path):
    Image.fromarray(ramp(60, 80)).convert('CMYK').save(path)


def rgba(path):
    Image.fromarray(np.dstack([ramp(60, 80), ramp(60, 80, 1)])).save(path)


def sixteen_bit(path):
    Image.fromarray(ramp(60, 80, 1)[..., 0].astype(np.uint16) * 257).save(path)


def palette(path):
    Image.fromarray(ramp(60, 80)).quantize(256).save(path)


def rotated(path):
    """Stored sideways, with EXIF orientation 6: rotate right by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(ramp(60, 80), 1)).save(path, exif=exif)


WRITERS = [
    (small, 'png'),
    (grey, 'jpg'),
    (cmyk, 'jpg'),
    (rgba, 'png'),
    (sixteen_bit, 'png'),
    (palette, 'png'),
    (rotated, 'jpg'),
]
CROP = dict(scale=256, crop_ratio_range=(0.2, 1.0), interpolation='bicubic')
LOADERS = {
    'mmpretrain': [
        dict(type='LoadImageFromFile'),
        dict(type='RandomResizedCrop', backend='pillow', **CROP),
    ],
    'ours': [dict(type='finola_mm.LoadRandomResizedCrop', **CROP)],
}


def load(root, split, loader=None):
    """The first image below ``root``; ``loader`` replaces the transforms before the flip."""
    cfg = Config.fromfile(CONFIG)
    init_default_scope(cfg.default_scope)
    dataset = cfg[f'{split}_dataloader'].dataset
    dataset.dataset.data_root = str(root)
    if loader:
        types = [transform['type'] for transform in dataset.dataset.pipeline]
        flip = types.index('RandomFlip')
        dataset.dataset.pipeline = LOADERS[loader] + dataset.dataset.pipeline[flip:]
    return DATASETS.build(dataset)[0]['inputs']


@pytest.mark.parametrize(('write', 'suffix'), WRITERS, ids=[w.__name__ for w, _ in WRITERS])
@pytest.mark.parametrize(
    ('split', 'loader'),
    [
        ('train', None),
        ('train', 'mmpretrain'),
        ('train', 'ours'),
        ('val', None),
    ],
)
def test_loads_as_a_normal_picture(project_root, tmp_path, write, suffix, split, loader):
    (tmp_path / split).mkdir()
    write(tmp_path / split / f'image.{suffix}')
    image = load(tmp_path, split, loader)
    assert image.shape == (3, 256, 256)
    rows = image.float().mean((0, 2))  # brightness of each row
    # Upright and in full range: brightness increases downwards, by the crop's part of the ramp.
    assert rows[-1] > rows[0] + 10
    assert 50 <= rows.min() and rows.max() <= 190
    spread = image.float().std(0).max()  # between the colours of a grey picture
    assert spread < 3


@pytest.mark.parametrize(('write', 'suffix'), WRITERS, ids=[w.__name__ for w, _ in WRITERS])
def test_both_loaders_see_the_same(project_root, tmp_path, write, suffix):
    """Crop, flip and colours are equal up to rounding."""
    (tmp_path / 'train').mkdir()
    write(tmp_path / 'train' / f'image.{suffix}')
    theirs, ours = (load(tmp_path, 'train', loader).int() for loader in LOADERS)
    assert (theirs - ours).abs().max() <= 2
