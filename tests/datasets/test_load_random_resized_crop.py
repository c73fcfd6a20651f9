"""LoadRandomResizedCrop against mmcv's loading and mmpretrain's RandomResizedCrop."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from mmpretrain.datasets.transforms import RandomResizedCrop
from PIL import Image

from finola_mm.datasets import LoadRandomResizedCrop
from finola_mm.datasets.load_random_resized_crop import crop
from tests.messages import shows


@pytest.fixture(scope='module')
def photograph():
    return Image.open(files('skimage') / 'data' / 'astronaut.png').convert('RGB')


def save(photograph, path, size, **options):
    photograph.resize(size, Image.Resampling.BICUBIC).save(path, quality=95, **options)
    return str(path)


def both(path, seed, **options):
    """The results of mmpretrain's transforms and of ours for the same draw."""
    results = []
    for transforms in (
        [LoadImageFromFile(), RandomResizedCrop(backend='pillow', **options)],
        [LoadRandomResizedCrop(**options)],
    ):
        np.random.seed(seed)
        result = {'img_path': path}
        for transform in transforms:
            result = transform(result)
        results.append(result)
    return results


def distance(a, b):
    return np.abs(a['img'].astype(int) - b['img'])


SIZES = [(1, 1), (9, 20), (20, 9), (375, 500), (500, 375), (40, 900), (900, 40), (300, 399)]


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'crop_ratio_range': (0.2, 1)},
        {'max_attempts': 0},
        {'crop_ratio_range': (0.9, 1), 'aspect_ratio_range': (0.5, 0.6), 'max_attempts': 2},
    ],
)
def test_draws_the_boxes_of_mmpretrain(options):
    ours, theirs = LoadRandomResizedCrop(256, **options), RandomResizedCrop(256, **options)
    for size in SIZES:
        np.random.seed(size[0])
        expected = [theirs.rand_crop_params(np.empty(size)) for _ in range(50)]
        np.random.seed(size[0])
        assert [ours.draw_box(*size) for _ in range(50)] == expected


@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
@pytest.mark.parametrize('size', [(500, 375), (300, 420), (90, 70), (3, 2)])
def test_pixels_equal_those_of_mmpretrain(photograph, tmp_path, size, interpolation):
    """Pillow and torch round the same filter to 8 bits differently, hence 2 grey levels."""
    path = save(photograph, tmp_path / 'image.jpg', size)
    for seed in range(5):
        theirs, ours = both(
            path, seed, scale=(192, 256), crop_ratio_range=(0.2, 1), interpolation=interpolation
        )
        assert ours['img'].shape == (192, 256, 3)
        assert ours['img'].dtype == np.uint8
        assert ours['img'].flags.writeable
        assert ours['img_shape'] == theirs['img_shape'][:2]
        assert ours['ori_shape'] == theirs['ori_shape'] == size[::-1]
        assert distance(theirs, ours).max() <= 2
        assert distance(theirs, ours).mean() < 0.05


def test_other_formats_are_never_reduced(photograph, tmp_path):
    """OpenCV would reduce a PNG by plain resizing after decoding all of it."""
    path = str(tmp_path / 'image.png')
    photograph.resize((900, 700)).save(path)
    assert distance(*both(path, 0, scale=64)).max() <= 2


@pytest.mark.parametrize(
    ('size', 'box'),
    [
        ((1101, 801), (64, 96, 512, 512)),
        ((1101, 801), (2, 10, 760, 900)),
        ((2203, 1601), (40, 8, 1480, 1600)),
        ((2203, 1601), (24, 400, 1024, 1024)),
    ],
)
def test_pixels_of_a_reduced_image_are_close(photograph, tmp_path, monkeypatch, size, box):
    """For crops whose borders lie between pixels of the reduced image."""
    path = save(photograph, tmp_path / 'image.jpg', size)
    monkeypatch.setattr(LoadRandomResizedCrop, 'draw_box', lambda *_: box)
    ours = LoadRandomResizedCrop(256, interpolation='bicubic')({'img_path': path})
    top, left, height, width = box
    whole = Image.fromarray(LoadImageFromFile()({'img_path': path})['img'])
    cut = whole.crop((left, top, left + width, top + height))
    theirs = {'img': np.asarray(cut.resize((256, 256), Image.Resampling.BICUBIC))}
    assert 0 < (distance(theirs, ours) ** 2).mean() < 255**2 / 10**3.8  # 38 dB and more
    signed = ours['img'].astype(float) - theirs['img']
    assert np.abs(signed.mean((0, 1))).max() < 0.2  # no colour cast
    sharp = [np.abs(np.diff(r['img'].astype(float), axis=1)).mean() for r in (theirs, ours)]
    assert 0.95 < sharp[1] / sharp[0] < 1.07


def test_reduction_leaves_the_place_and_the_resolution():
    transform = LoadRandomResizedCrop((192, 256))
    rng = np.random.default_rng(0)
    assert transform.choose_reduction((0, 0, 384, 512)) == 2
    assert transform.choose_reduction((0, 0, 383, 512)) == 1
    assert transform.choose_reduction((0, 0, 5000, 5000)) == 8
    for _ in range(300):
        size = rng.integers(200, 3000, 2).tolist()
        box = transform.draw_box(*size)
        reduction = transform.choose_reduction(box)
        grid = np.mgrid[tuple(slice(-(-side // reduction)) for side in size)].transpose(1, 2, 0)
        taken = crop(grid, box, reduction)  # (h, w, 2), each pixel its own row and column
        for k in (0, 1):
            assert abs(taken[0, 0, k] - box[k] / reduction) <= 1
            assert abs(taken.shape[k] - box[2 + k] / reduction) <= 1
            assert taken.shape[k] >= min(transform.scale[k], box[2 + k])


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation_of_a_reduced_image(photograph, tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(photograph, tmp_path / 'image.jpg', (900, 600), exif=exif)
    theirs, ours = both(path, 3, scale=128, crop_ratio_range=(0.3, 0.6))
    assert ours['ori_shape'] == theirs['ori_shape']
    assert distance(theirs, ours).mean() < 6  # 30 to 60 for a wrong orientation


def test_odd_exif_does_not_lose_an_image(photograph, tmp_path):
    """A truncated EXIF entry, for which Pillow raises struct.error."""
    path = tmp_path / 'image.jpg'
    save(photograph, path, (600, 400), exif=b'Exif\0\0II*\0\x08')
    theirs, ours = both(str(path), 0, scale=256)
    assert distance(theirs, ours).max() <= 2


def test_draws_only_from_numpy(photograph, tmp_path):
    """So the next draw, for the flip, equals mmpretrain's too."""
    path = save(photograph, tmp_path / 'image.jpg', (500, 375))
    following = []
    for transform in (LoadRandomResizedCrop(64), RandomResizedCrop(64)):
        np.random.seed(7)
        transform({'img_path': path, 'img': np.empty((375, 500, 3), np.uint8)})
        following.append(np.random.rand())
    assert following[0] == following[1]


@pytest.mark.parametrize('suffix', ['jpg', 'png'])
def test_broken_files_raise(photograph, tmp_path, suffix):
    whole = tmp_path / f'whole.{suffix}'
    photograph.resize((600, 400)).save(whole)
    data = whole.read_bytes()
    broken = tmp_path / f'broken.{suffix}'
    for content in (b'', b'<html>404</html>', *(data[:n] for n in (1, 100, len(data) // 2))):
        broken.write_bytes(content)
        for scale in (64, 256):  # reduced and in full
            with pytest.raises(ValueError, match=shows(broken, len(content))):
                LoadRandomResizedCrop(scale)({'img_path': str(broken)})


@pytest.mark.parametrize('options', [{}, {'progressive': True}], ids=['baseline', 'progressive'])
def test_truncated_jpeg_is_not_half_grey(photograph, tmp_path, options):
    path = tmp_path / 'image.jpg'
    data = Path(save(photograph, path, (600, 400), **options)).read_bytes()
    for missing in (2, 100, len(data) // 3):
        path.write_bytes(data[:-missing])
        with pytest.raises(ValueError, match=shows(path, len(data) - missing)):
            LoadRandomResizedCrop(256)({'img_path': str(path)})


def test_missing_file_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere'):
        LoadRandomResizedCrop(256)({'img_path': str(tmp_path / 'nowhere.jpg')})


def test_backend_args_choose_the_storage(photograph, tmp_path):
    data = Path(save(photograph, tmp_path / 'image.jpg', (80, 60))).read_bytes()

    class Shelf(fileio.BaseStorageBackend):
        def __init__(self, book):
            self.book = book

        def get(self, path):
            return {'atlas': {'map': data}}[self.book][path]

        get_text = get

    fileio.register_backend('shelf', Shelf, force=True)
    transform = LoadRandomResizedCrop(32, backend_args={'backend': 'shelf', 'book': 'atlas'})
    assert transform({'img_path': 'map'})['ori_shape'] == (60, 80)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'scale': 0}, ('scale', 0)),
        ({'scale': (1, 2, 3)}, ('scale', '(1, 2, 3)')),
        ({'scale': 8, 'crop_ratio_range': (1, 0.2)}, ('crop_ratio_range', '(1, 0.2)')),
        ({'scale': 8, 'aspect_ratio_range': (0, 1)}, ('aspect_ratio_range', '(0, 1)')),
        ({'scale': 8, 'interpolation': 'area'}, ('interpolation', "'area'", 'RandomResizedCrop')),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=shows(*message)):
        LoadRandomResizedCrop(**options)
