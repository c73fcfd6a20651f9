"""The library of make_photos.py: its lists, unpackers, downloads, composites and tiles."""

import random
import shutil
import struct
import subprocess
import zipfile
import zlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from finola_mm.datasets.photos import (
    AERIAL,
    PACKAGES,
    SURVEYED,
    Backgrounds,
    download,
    draw_object,
    draw_scene,
    encode_rle,
    extract_cutout,
    load_cutouts,
    load_photographs,
    read_boxes,
    read_deb,
    read_files,
    read_rcc,
    tile_boxes,
    to_rgb,
    version_of,
)
from finola_mm.errors import UserError
from tests.datasets import fake_photos
from tests.messages import shows


def test_the_lists_are_those_of_the_survey():
    photographs, cutouts = load_photographs(), load_cutouts()
    for split in ('train', 'val'):
        chosen = [p for p in photographs if p.split == split]
        assert (len(chosen),) == SURVEYED[f'photos/{split}']
        assert (sum(bool(p.label) for p in chosen),) == SURVEYED[f'cls/photo12/{split}']
        per_class = Counter(c.label for c in cutouts if c.split == split)
        most = {'train': 240, 'val': 80}[split]
        images = sum(n * (most // n) for n in per_class.values())
        assert (images,) == SURVEYED[f'cls/objects12/{split}']
        assert (sum(a.split == split for a in AERIAL),) == SURVEYED[f'extra/aerial/{split}']
    by_package = Counter(p.package for p in photographs)
    for package, number in by_package.items():
        assert str(number) in PACKAGES[package].contents
    assert {p.background for p in photographs} == {'', 'yes'}
    assert all(p.licence and p.credit for p in photographs)
    megabytes = [sum(p.megabytes for p in PACKAGES.values() if p.small or all_) for all_ in (0, 1)]
    assert megabytes == [pytest.approx(145.1), pytest.approx(410.7)]


def test_no_photograph_subject_or_object_is_in_both_splits():
    photographs, cutouts = load_photographs(), load_cutouts()
    for keys in (
        [(p.split, (p.package, p.path)) for p in photographs],
        [(p.split, p.subject) for p in photographs if p.subject],
        [(c.split, c.path) for c in cutouts],
        [(a.split, a.path) for a in AERIAL],
    ):
        splits = {}
        for split, key in keys:
            splits.setdefault(key, set()).add(split)
        assert splits and all(len(found) == 1 for found in splits.values())
    for names in ([p.name for p in photographs], [c.name for c in cutouts]):
        assert len(set(names)) == len(names)


# --------------------------------------------------------------------------------- archives
def resource_file(files, version, compress):
    """Write an .rcc file as Qt's rcc does: folders before their contents, names, data."""
    nodes, names, data = [], b'', b''
    children = {'': []}
    for path in files:
        parts = path.split('/')
        for i in range(len(parts)):
            folder, child = '/'.join(parts[:i]), '/'.join(parts[: i + 1])
            if child not in children.setdefault(folder, []):
                children[folder].append(child)
    order = ['']
    for path in order:  # breadth first: the children of a folder are consecutive
        order += children.get(path, [])
    for path in order:
        text = path.rpartition('/')[2].encode('utf-16-be')
        name = len(names)
        names += struct.pack('>HI', len(text) // 2, 0) + text
        if path in files:
            content = files[path]
            if compress:
                content = struct.pack('>I', len(content)) + zlib.compress(content)
            node = struct.pack('>IHHHI', name, int(compress), 0, 0, len(data))
            data += struct.pack('>I', len(content)) + content
        else:
            first = order.index(children[path][0])
            node = struct.pack('>IHII', name, 2, len(children[path]), first)
        nodes.append(node + bytes(8) * (version >= 2))
    tree = 20 + 4 * (version >= 3)
    contents = tree + len(b''.join(nodes))
    header = struct.pack('>4s4I', b'qres', version, tree, contents, contents + len(data))
    return header + bytes(4) * (version >= 3) + b''.join(nodes) + data + names


FILES = {'a/b/one.webp': b'1' * 300, 'a/two.webp': b'22', 'a/b/ü.txt': b'', 'three': b'3'}


@pytest.mark.parametrize('version', [1, 2, 3])
@pytest.mark.parametrize('compress', [False, True])
def test_resource_files_are_read_back(version, compress):
    data = resource_file(FILES, version, compress)
    assert read_rcc(data, FILES) == FILES
    assert read_rcc(data, ['a/two.webp', 'a/none']) == {'a/two.webp': b'22'}
    with pytest.raises(UserError, match='PNG'):
        read_rcc(b'\x89PNG', FILES)


@pytest.mark.skipif(shutil.which('dpkg-deb') is None, reason='dpkg-deb is part of Debian')
def test_debian_packages_and_wheels(tmp_path):
    root = tmp_path / 'root'
    package = PACKAGES['gcompris-qt-data']
    (root / package.root).mkdir(parents=True)
    (root / package.root / 'x.rcc').write_bytes(resource_file(FILES, 2, True))
    (root / package.root / 'plain.jpg').write_bytes(b'plain')
    (root / 'DEBIAN').mkdir()
    control = 'Package: x\nVersion: 1:2-3\nArchitecture: all\nMaintainer: x\nDescription: x\n'
    (root / 'DEBIAN' / 'control').write_text(control)
    file = tmp_path / 'x_1%3a2-3_all.deb'
    subprocess.run(['dpkg-deb', '--build', '-Zgzip', root, file], check=True, capture_output=True)
    found = read_files(package, file, ['x.rcc/a/two.webp', 'plain.jpg', 'missing.jpg'])
    assert found == {'x.rcc/a/two.webp': b'22', 'plain.jpg': b'plain'}
    assert version_of(file) == '1:2-3'
    file.write_bytes(file.read_bytes()[:400])
    with pytest.raises(UserError, match=shows(file)):
        read_deb(file, ['plain.jpg'])
    wheel = tmp_path / 'deepforest-2.1.0-py3-none-any.whl'
    with zipfile.ZipFile(wheel, 'w') as archive:
        archive.writestr('deepforest/data/a.png', b'a')
    assert read_files(PACKAGES['deepforest'], wheel, ['a.png', 'b.png']) == {'a.png': b'a'}
    assert version_of(wheel) == '2.1.0'


@pytest.fixture
def apt_get(tmp_path, monkeypatch):
    """A stand-in for apt-get that logs its calls; ``mode`` in its folder decides how it fails."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    script = f"""#!/bin/sh
echo "$1" >> {folder}/log
case "$1-$(cat {folder}/mode)" in
    download-killed) echo half > "$2_1_all.deb"; exit 1;;
    download-lists) [ -e {folder}/updated ] || exit 100; echo whole > "$2_1_all.deb";;
    download-*) echo whole > "$2_1_all.deb";;
    update-lists) touch {folder}/updated;;
    update-*) exit 100;;
esac
"""
    (folder / 'apt-get').write_text(script)
    (folder / 'apt-get').chmod(0o755)
    monkeypatch.setenv('PATH', f'{folder}:/usr/bin:/bin')
    return folder


def test_an_interrupted_download_starts_again_and_a_complete_one_is_kept(apt_get, tmp_path):
    krank, downloads = PACKAGES['krank'], tmp_path / 'downloads'
    (apt_get / 'mode').write_text('killed')
    with pytest.raises(UserError, match='krank'):
        download(krank, downloads)
    assert not list(downloads.glob('*.deb'))  # half a file is never taken for a whole one
    (apt_get / 'mode').write_text('well')
    file = download(krank, downloads)
    assert (file.parent, file.read_text()) == (downloads, 'whole\n')
    assert (apt_get / 'log').read_text().split() == ['download', 'update', 'download']
    (apt_get / 'mode').write_text('killed')
    assert download(krank, downloads) == file
    assert len((apt_get / 'log').read_text().split()) == 3


def test_missing_lists_and_missing_apt(apt_get, tmp_path, monkeypatch, capfd):
    krank, downloads = PACKAGES['krank'], tmp_path / 'downloads'
    (apt_get / 'mode').write_text('lists')
    assert download(krank, downloads).read_text() == 'whole\n'
    assert (apt_get / 'log').read_text().split() == ['download', 'update', 'download']
    monkeypatch.setenv('PATH', '')
    with pytest.raises(UserError, match='scratch'):
        download(PACKAGES['scratch'], downloads)
    assert 'apt-get' in capfd.readouterr().err


# -------------------------------------------------------------------------------- composites
@pytest.mark.parametrize('seed', range(8))
def test_run_lengths_are_those_of_pycocotools(seed):
    rng = np.random.default_rng(seed)
    height, width = (int(n) for n in rng.integers(1, 30, 2))
    mask = rng.random((height, width)) < (0, 0.1, 0.5, 1)[seed % 4]
    rle = coco_mask.frPyObjects(encode_rle(mask), height, width)
    np.testing.assert_array_equal(coco_mask.decode(rle), mask)


@pytest.fixture(scope='module')
def material():
    photographs = [p for p in fake_photos.photographs() if p.background and p.split == 'train']
    backgrounds = Backgrounds(photographs, {p: fake_photos.content(p.path) for p in photographs})
    chosen = [c for c in load_cutouts() if c.split == 'train' and c.label in ('bird', 'tool')]
    pictures = {c: extract_cutout(fake_photos.content(c.path)) for c in chosen[::5]}
    cutouts = {k: [c for c in pictures if c.label == k] for k in ('bird', 'tool')}
    return cutouts, pictures, backgrounds


def test_masks_and_boxes_are_those_of_the_objects(material):
    """Masks do not overlap, boxes are pycocotools', and only pasted pixels differ in colour."""
    count = 0
    for seed in range(12):
        scene = draw_scene(random.Random(seed), *material, 96)
        again = draw_scene(random.Random(seed), *material, 96)
        assert scene.image.tobytes() == again.image.tobytes()
        masks = np.array([o.mask for o in scene.objects]).reshape(-1, 96, 96)
        assert masks.sum(0).max(initial=0) <= 1
        background, photograph = material[2].crop(random.Random(seed), 96)
        assert photograph == scene.background
        untouched = (np.asarray(scene.image) == np.asarray(background)).all(2)
        for pasted in scene.objects:
            count += 1
            rle = coco_mask.frPyObjects(encode_rle(pasted.mask), 96, 96)
            assert pasted.box == coco_mask.toBbox(rle).tolist()
            assert pasted.mask.sum() >= pasted.area / 2
            assert untouched[pasted.mask].mean() < 0.1
            # An ellipse fills pi/4 of its box, turned or not, unless it is hidden or cut.
            assert pasted.mask.sum() <= 1.02 * np.prod(pasted.box[2:])
    assert count > 20


def test_single_objects_are_large_and_central(material):
    cutouts, pictures, backgrounds = material
    image = draw_object(random.Random(0), pictures[cutouts['bird'][0]], backgrounds, 96)
    background, _ = backgrounds.crop(random.Random(0), 96)
    changed = (np.asarray(image) != np.asarray(background)).any(2)
    assert changed[40:56, 40:56].all() and 0.1 < changed.mean() < 0.7


def test_transparent_pictures_become_white_and_cutouts_are_cropped():
    image = Image.new('RGBA', (20, 10))
    image.paste((10, 20, 30, 255), (5, 2, 9, 8))
    rgb = to_rgb(image)
    assert rgb.getpixel((0, 0)) == (255, 255, 255) and rgb.getpixel((5, 2)) == (10, 20, 30)
    assert extract_cutout(fake_photos.encode(image)).size == (4, 6)


# ------------------------------------------------------------------------------------- trees
def test_tiles_against_counting_pixels():
    """Every box of whole pixels, in each tile that holds at least half of its pixels."""
    rng = np.random.default_rng(0)
    width, height = 1150, 800
    corners = rng.integers(0, (1100, 750), (30, 2))
    sides = rng.integers(4, 50, (30, 2))
    boxes = read_boxes(fake_photos.voc(np.hstack([corners, corners + sides])))
    tiles = list(tile_boxes((width, height), boxes))
    assert len(tiles) == 3 * 2
    covered = np.zeros((height, width), int)
    for (left, top, right, bottom), found in tiles:
        covered[top:bottom, left:right] += 1
        expected = []
        for x0, y0, x1, y1 in boxes:
            pixels = np.zeros((height, width), bool)
            pixels[int(y0) : int(y1), int(x0) : int(x1)] = True
            ys, xs = np.nonzero(pixels[top:bottom, left:right])
            if len(ys) * 2 >= pixels.sum() and min(np.ptp(xs), np.ptp(ys)) >= 2:
                expected.append([xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1])
        np.testing.assert_array_equal(found, expected)
    assert covered.max() == 1 and covered.mean() > 0.99
