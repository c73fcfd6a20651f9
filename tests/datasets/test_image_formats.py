"""Images as they are found in the wild go through the pre-training pipeline of the real config."""

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
    (small, 'png'), (grey, 'jpg'), (cmyk, 'jpg'), (rgba, 'png'), (sixteen_bit, 'png'),
    (palette, 'png'), (rotated, 'jpg'),
]


@pytest.mark.parametrize(('write', 'suffix'), WRITERS, ids=[w.__name__ for w, _ in WRITERS])
@pytest.mark.parametrize('split', ['train', 'val'])
def test_loads_as_a_normal_picture(project_root, tmp_path, write, suffix, split):
    (tmp_path / split).mkdir()
    write(tmp_path / split / f'image.{suffix}')
    cfg = Config.fromfile(CONFIG)
    init_default_scope(cfg.default_scope)
    dataset_cfg = cfg[f'{split}_dataloader'].dataset
    dataset_cfg.dataset.data_root = str(tmp_path)
    image = DATASETS.build(dataset_cfg)[0]['inputs']
    assert image.shape == (3, 256, 256)
    rows = image.float().mean((0, 2))  # brightness of each row
    # Upright and in full range: brightness grows downwards, by what the crop holds of the ramp.
    assert rows[-1] > rows[0] + 10
    assert 50 <= rows.min() and rows.max() <= 190
    spread = image.float().std(0).max()  # between the colours of a grey picture
    assert spread < 3
