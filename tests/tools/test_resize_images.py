"""Large images are resized, others copied, and no partial file is ever visible."""

import errno
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from finola_mm.datasets import LoadImageFromFile
from tests.messages import shows

TOOL = Path(__file__).parents[2] / 'tools' / 'dataset_converters' / 'resize_images.py'


@pytest.fixture(scope='module')
def resize_images():
    spec = importlib.util.spec_from_file_location('resize_images', TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules['resize_images'] = module  # worker processes find the functions by this name
    spec.loader.exec_module(module)
    yield module
    del sys.modules['resize_images']


def picture(width, height):
    """A smooth image: red increases to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 250, width), np.linspace(0, 250, height))
    return Image.fromarray(np.stack([x, y, 0 * x + 80], -1).astype(np.uint8))


@pytest.fixture
def src(tmp_path):
    """An ImageNet-like tree: large, small, EXIF-rotated, misnamed and broken images."""
    root = tmp_path / 'src'
    (root / 'train' / 'cat').mkdir(parents=True)
    (root / 'val').mkdir()
    picture(100, 75).save(root / 'train' / 'cat' / 'wide.JPEG', quality=95)
    picture(90, 200).save(root / 'train' / 'cat' / 'high.png')
    picture(80, 40).save(root / 'train' / 'cat' / 'small.jpg', quality=30)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right by 90 degrees
    picture(75, 100).transpose(Image.Transpose.ROTATE_90).save(
        root / 'val' / 'lying.jpg', quality=95, exif=exif
    )
    whole = (root / 'val' / 'lying.jpg').read_bytes()
    (root / 'val' / 'cut.jpg').write_bytes(whole[:-300])
    (root / 'val' / 'empty.jpg').write_bytes(b'')
    (root / 'notes.txt').write_text('not an image')
    return root


def call(module, src, dst, *options):
    module.main([str(src), str(dst), '--short-side', '40', '--workers', '1', *options])


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file()
    }


def numbers(report, dst):
    """Return the numbers of the last line, sorted, except those in the folder's name."""
    line = report.splitlines()[-1]
    assert str(dst) in line
    return sorted(re.findall(r'\d+(?:\.\d+)?', line.replace(str(dst), '')))


def test_converts_a_tree(resize_images, src, tmp_path, capsys):
    dst = tmp_path / 'a' / 'dst'
    call(resize_images, src, dst)
    made = contents(dst)
    assert set(made) == {
        'train/cat/wide.JPEG',
        'train/cat/high.png',
        'train/cat/small.jpg',
        'val/lying.jpg',
        'resize_images.json',
    }
    assert made['train/cat/small.jpg'] == contents(src)['train/cat/small.jpg']
    for name, size in (
        ('train/cat/wide.JPEG', (53, 40)),
        ('train/cat/high.png', (40, 89)),
        ('val/lying.jpg', (40, 53)),
    ):
        with Image.open(dst / name) as image:
            assert image.format == 'JPEG'
            assert image.size == size
            assert image.getexif().get(0x0112, 1) == 1
            assert np.abs(np.asarray(image).astype(int) - picture(*size)).mean() < 3
    out, err = capsys.readouterr()
    sizes = [
        sum(
            len(data)
            for name, data in files.items()
            if name in made and name != 'resize_images.json'
        )
        / 1e6
        for files in (contents(src), made)
    ]
    # images; resized, copied, existing, left out; megabytes before and after
    counts = ['6', '3', '1', '0', '2', f'{sizes[0]:.1f}', f'{sizes[1]:.1f}']
    assert numbers(out, dst) == sorted(counts)
    assert len([line for line in err.splitlines() if '.jpg' in line]) == 2
    assert 'cut.jpg' in err and 'empty.jpg' in err


def test_orientation_is_kept_or_applied(resize_images, tmp_path):
    """A large and a small turned WebP, read again by the loader of training."""
    (tmp_path / 'src').mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, (width, height) in {'large': (100, 75), 'small': (60, 30)}.items():
        stored = picture(width, height).transpose(Image.Transpose.ROTATE_90)
        stored.save(tmp_path / 'src' / f'{name}.jpg', 'webp', lossless=True, exif=exif)
    call(resize_images, tmp_path / 'src', tmp_path / 'dst')
    for name, (width, height) in {'large': (53, 40), 'small': (60, 30)}.items():
        image = LoadImageFromFile()(dict(img_path=str(tmp_path / 'dst' / f'{name}.jpg')))['img']
        assert image.shape == (height, width, 3)
        assert np.abs(image[..., ::-1].astype(int) - picture(width, height)).mean() < 3


def test_antialiased(resize_images):
    """One-pixel stripes become uniform grey; without a filter they would alias."""
    stripes = np.zeros((300, 300, 3), np.uint8)
    stripes[:, ::2] = 255
    data = np.frombuffer(resize_images.shrink(stripes, 40, 95), np.uint8)
    small = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert small.shape == (40, 40, 3)
    assert np.abs(small[:, 3:-3].astype(int) - 127).max() < 8


def test_second_run_skips_and_first_failure_is_mended(resize_images, src, tmp_path, capsys):
    dst = tmp_path / 'dst'
    call(resize_images, src, dst)
    before = {path: path.stat().st_mtime_ns for path in dst.rglob('*') if path.is_file()}
    picture(100, 75).save(src / 'val' / 'cut.jpg')
    call(resize_images, src, dst)
    counts = [n for n in numbers(capsys.readouterr().out, dst) if n.isdigit()]
    assert counts == ['0', '1', '1', '4', '6']
    after = {path: path.stat().st_mtime_ns for path in dst.rglob('*') if path.is_file()}
    assert after.keys() - before.keys() == {dst / 'val' / 'cut.jpg'}
    assert {path: after[path] for path in before} == before


def test_killed_run_leaves_whole_images_and_is_completed(resize_images, tmp_path):
    src, dst = tmp_path / 'src', tmp_path / 'dst'
    src.mkdir()
    picture(700, 700).save(src / '000.jpg')
    for index in range(1, 120):
        os.link(src / '000.jpg', src / f'{index:03d}.jpg')
    process = subprocess.Popen(
        [sys.executable, TOOL, src, dst, '--short-side', '40', '--workers', '1'],
        start_new_session=True,
    )
    deadline = time.time() + 60
    while len(list(dst.glob('*.jpg'))) < 5 and time.time() < deadline:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    survivors = list(dst.glob('*.jpg'))
    assert 5 <= len(survivors) < 120, 'it was done before it could be killed'
    call(resize_images, src, dst)
    made = list(dst.glob('*.jpg'))
    assert len(made) == 120
    assert len({path.read_bytes() for path in made}) == 1  # whole, like the others


@pytest.mark.parametrize('send', [os.killpg, os.kill], ids=['all', 'first'])
def test_interrupted_run_stops_soon(resize_images, tmp_path, send):
    """Ctrl-C reaches all processes, a scheduler's signal only the first; the queue is dropped."""
    src, dst = tmp_path / 'src', tmp_path / 'dst'
    src.mkdir()
    picture(700, 700).save(src / '0000.jpg')
    for index in range(1, 2000):
        os.link(src / '0000.jpg', src / f'{index:04d}.jpg')
    process = subprocess.Popen(
        [sys.executable, TOOL, src, dst, '--short-side', '40', '--workers', '1'],
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.time() + 60
    while len(list(dst.glob('*.jpg'))) < 5 and time.time() < deadline:
        time.sleep(0.001)
    send(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and 'Traceback' not in err
    assert 5 <= len(list(dst.glob('*.jpg'))) <= 5 * 16  # at most four chunks are in progress
    assert not list(dst.glob('*.unfinished'))


def kill(*args):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_one_message(resize_images, src, tmp_path, monkeypatch):
    monkeypatch.setattr(resize_images, 'start_worker', kill)
    with pytest.raises(SystemExit, match=r'^resize_images: .*--workers\b.*\b1\b'):
        call(resize_images, src, tmp_path / 'dst')


def test_full_disk_is_one_message(resize_images, src, tmp_path, monkeypatch):
    def pool(*args, **kwargs):  # in this process, so that writing can be patched
        return SimpleNamespace(
            map=lambda job, names, chunksize: map(job, names), shutdown=lambda cancel_futures: None
        )

    replace = Path.replace

    def fail(path, target):
        if target.name != 'resize_images.json':
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        return replace(path, target)

    monkeypatch.setattr(resize_images, 'ProcessPoolExecutor', pool)
    monkeypatch.setattr(Path, 'replace', fail)
    dst = tmp_path / 'dst'
    with pytest.raises(SystemExit, match=shows('resize_images: ', 'no space left', dst)):
        call(resize_images, src, dst)
    assert set(contents(dst)) == {'resize_images.json'}


def test_mistakes(resize_images, src, tmp_path):
    before = contents(src)
    (tmp_path / 'bare').mkdir()
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'thesis.txt').write_text('ten years of work')
    (tmp_path / 'file').write_text('')
    for source, dst, values in (
        (tmp_path / 'nowhere', tmp_path / 'dst', ['nowhere']),
        (tmp_path / 'bare', tmp_path / 'dst', ['bare', '.jpg']),
        (src, src, [src, 'SRC']),
        (src, src / 'val' / 'small', [src / 'val' / 'small', src, 'SRC']),
        (src / 'val', src, [src / 'val', src, 'SRC']),
        (src, tmp_path / 'full', [tmp_path / 'full']),
        (src, tmp_path / 'file' / 'dst', [tmp_path / 'file']),
    ):
        with pytest.raises(SystemExit, match=shows('resize_images: ', *values)):
            call(resize_images, source, dst)
    assert contents(src) == before
    assert not (tmp_path / 'dst').exists()
    assert set(contents(tmp_path / 'full')) == {'thesis.txt'}


def test_other_options_are_not_mixed_in(resize_images, src, tmp_path):
    dst = tmp_path / 'dst'
    call(resize_images, src, dst)
    before = contents(dst)
    with pytest.raises(SystemExit, match=shows(dst, 'quality', 95, 80)):
        call(resize_images, src, dst, '--quality', '80')
    assert contents(dst) == before


@pytest.mark.parametrize(
    ('options', 'limit'),
    [
        (['--short-side', '0'], 1),
        (['--quality', '101'], 100),
        (['--workers', '0'], 1),
    ],
)
def test_bad_arguments(resize_images, src, tmp_path, capsys, options, limit):
    with pytest.raises(SystemExit):
        call(resize_images, src, tmp_path / 'dst', *options)
    assert re.search(shows(*options, limit), capsys.readouterr().err.splitlines()[-1])
    assert not (tmp_path / 'dst').exists()
