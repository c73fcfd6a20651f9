"""Images as they are found in the wild go through the pipelines of the real pre-training config.

For training also the other way to load a random crop, whichever of the two the config uses.
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
    """A smooth picture: brightness grows from top to bottom, 60 to 180."""
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
    """Stored lying on its side, with the EXIF entry that stands it up: 6 = turn right by 90."""
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
    'host': [
        dict(type='LoadImageFromFile'),
        dict(type='RandomResizedCrop', backend='pillow', **CROP),
    ],
    'ours': [dict(type='finola_mm.LoadRandomResizedCrop', **CROP)],
}


def load(root, split, loader=None):
    """The first image below ``root``; ``loader``: what comes before the flip, None as configured"""
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
        ('train', 'host'),
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
    # Upright and in full range: brightness grows downwards, by what the crop holds of the ramp.
    assert rows[-1] > rows[0] + 10
    assert 50 <= rows.min() and rows.max() <= 190
    spread = image.float().std(0).max()  # between the colours of a grey picture
    assert spread < 3


@pytest.mark.parametrize(('write', 'suffix'), WRITERS, ids=[w.__name__ for w, _ in WRITERS])
def test_both_loaders_see_the_same(project_root, tmp_path, write, suffix):
    """Crop, flip and colours, as the model gets them, up to rounding."""
    (tmp_path / 'train').mkdir()
    write(tmp_path / 'train' / f'image.{suffix}')
    host, ours = (load(tmp_path, 'train', loader).int() for loader in LOADERS)
    assert (host - ours).abs().max() <= 2
