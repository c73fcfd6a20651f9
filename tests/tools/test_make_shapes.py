"""The generated data set: the same bytes every time, true COCO, and nothing of the user's lost."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from finola_mm.datasets.shape_classes import load_photographs
from finola_mm.datasets.shapes import NAMES
from tests.messages import shows

TOOL = Path(__file__).parents[2] / 'tools' / 'dataset_converters' / 'make_shapes.py'
SMALL = [
    '--size',
    '48',
    '--train-images',
    '26',
    '--val-images',
    '13',
    '--train-scenes',
    '9',
    '--val-scenes',
    '4',
]


@pytest.fixture(scope='module')
def make_shapes():
    spec = importlib.util.spec_from_file_location('make_shapes', TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules['make_shapes'] = module  # worker processes look the functions up by name
    spec.loader.exec_module(module)
    yield module
    del sys.modules['make_shapes']


@pytest.fixture(scope='module')
def made(make_shapes, tmp_path_factory):
    """A data set made by one worker."""
    out = tmp_path_factory.mktemp('shapes') / 'a' / 'b'
    make_shapes.main(['--out', str(out), '--workers', '1', *SMALL])
    return out


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file()
    }


def test_same_bytes_for_any_number_of_workers(make_shapes, made, tmp_path):
    make_shapes.main(['--out', str(tmp_path), '--workers', '2', *SMALL])
    assert contents(tmp_path) == contents(made)
    assert len(contents(made)) == 26 + 13 + 9 + 4 + 3


def test_seeds_and_splits_share_no_picture(make_shapes, made, tmp_path):
    make_shapes.main(['--out', str(tmp_path), '--workers', '1', '--seed', '1', *SMALL])
    pictures = [
        data
        for folder in (made, tmp_path)
        for name, data in contents(folder).items()
        if name.endswith('.jpg')
    ]
    assert len(set(pictures)) == len(pictures) == 2 * (26 + 13 + 9 + 4)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_coco_masks_areas_and_boxes(make_shapes, made, split):
    """pycocotools reads back exactly the masks that are drawn from the seeds."""
    coco = COCO(made / 'coco' / 'annotations' / f'instances_{split}2017.json')
    assert [category['name'] for category in coco.loadCats(coco.getCatIds())] == list(NAMES)
    assert min(coco.getCatIds()) == 1
    assert max(coco.getCatIds()) > len(NAMES)  # gaps, as in COCO
    photographs = load_photographs(split)
    count = 0
    for index, image in enumerate(coco.loadImgs(sorted(coco.getImgIds()))):
        pixels = cv2.imread(str(made / 'coco' / f'{split}2017' / image['file_name']))
        assert pixels.shape == (image['height'], image['width'], 3)
        rng = make_shapes._generator(0, 'coco', split, index)
        size = (54, 72) if rng.random() < 0.7 else (72, 54)
        drawing = make_shapes.draw(make_shapes.multi_object_scene(rng, size), photographs)
        assert np.abs(pixels[..., ::-1].astype(int) - drawing.image).mean() < 8  # JPEG's loss
        objects = coco.loadAnns(sorted(coco.getAnnIds(image['id'])))
        count += len(objects)
        labels = [NAMES.index(coco.loadCats(o['category_id'])[0]['name']) for o in objects]
        assert labels == drawing.labels.tolist()
        for annotation, mask in zip(objects, drawing.masks, strict=True):
            np.testing.assert_array_equal(coco.annToMask(annotation), mask)
            rle = coco.annToRLE(annotation)
            assert annotation['area'] == coco_mask.area(rle) == mask.sum()
            assert annotation['bbox'] == coco_mask.toBbox(rle).tolist()
            assert annotation['iscrowd'] == 0
    assert count == len(coco.anns) > 0


@pytest.mark.parametrize('seed', range(20))
def test_polygons_give_any_mask_back(make_shapes, seed):
    """Blobs with holes, islands in holes and pixels that touch at corners only."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(3, 30, 2)
    mask = rng.random((height, width)) < rng.uniform(0.1, 0.9)
    mask[rng.integers(height), rng.integers(width)] = True
    rles = coco_mask.frPyObjects(make_shapes.polygons(mask), int(height), int(width))
    np.testing.assert_array_equal(coco_mask.decode(coco_mask.merge(rles)), mask)


def test_imagenet_folder_loads(made):
    from mmpretrain.datasets import CustomDataset

    for split, count in (('train', 26), ('val', 13)):
        data = CustomDataset(data_root=str(made / 'imagenet'), data_prefix=split)
        assert len(data) == count
        assert data.metainfo['classes'] == NAMES
        labels = [data.get_data_info(i)['gt_label'] for i in range(count)]
        assert np.bincount(labels).tolist() == [count // 12 + (k < count % 12) for k in range(12)]


def test_second_run_does_nothing(make_shapes, made, capsys):
    before = {path: path.stat().st_mtime_ns for path in made.rglob('*')}
    make_shapes.main(['--out', str(made), *SMALL])
    assert str(made) in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in made.rglob('*')} == before


def test_killed_run_is_completed(make_shapes, made, tmp_path):
    out = tmp_path / 'shapes'
    process = subprocess.Popen(
        [sys.executable, TOOL, '--out', out, '--workers', '2', *SMALL],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.time() + 60
    while len(list(out.rglob('*.jpg'))) < 5 and time.time() < deadline:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    stamp = json.loads((out / 'shapes.json').read_text())
    survivors = {path: path.stat().st_mtime_ns for path in out.rglob('*.jpg')}
    assert not stamp['complete'], 'it was done before it could be killed'
    assert len(survivors) >= 5
    make_shapes.main(['--out', str(out), *SMALL])
    assert contents(out) == contents(made)
    assert {path: path.stat().st_mtime_ns for path in survivors} == survivors  # not drawn again


def test_a_folder_grows(make_shapes, made, tmp_path):
    """To what it would have been at once; what is there is not drawn again, and nothing goes."""
    out = tmp_path / 'shapes'
    make_shapes.main(['--out', str(out), *SMALL, '--train-images', '12', '--val-scenes', '1'])
    before = {path: path.stat().st_mtime_ns for path in out.rglob('*.jpg')}
    make_shapes.main(['--out', str(out), *SMALL])
    assert contents(out) == contents(made)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(SystemExit, match=shows(out, 'shapes.json', 26, 12)):
        make_shapes.main(['--out', str(out), *SMALL, '--train-images', '12'])
    assert contents(out) == contents(made)


def test_other_data_is_never_touched(make_shapes, made, tmp_path):
    (tmp_path / 'thesis.txt').write_text('ten years of work')
    with pytest.raises(SystemExit, match=shows('make_shapes: ', tmp_path)):
        make_shapes.main(['--out', str(tmp_path), *SMALL])
    assert contents(tmp_path) == {'thesis.txt': b'ten years of work'}
    before = contents(made)
    with pytest.raises(SystemExit, match=shows(made, 'shapes.json', 5)):
        make_shapes.main(['--out', str(made), *SMALL, '--seed', '5'])
    assert contents(made) == before


@pytest.mark.parametrize(
    ('arguments', 'limit'),
    [
        (['--size', '20'], 48),
        (['--size', '4000'], 1024),
        (['--val-images', '3'], 12),
        (['--workers', '0'], 1),
        (['--seed', '-1'], 0),
    ],
)
def test_bad_arguments(make_shapes, tmp_path, capsys, arguments, limit):
    with pytest.raises(SystemExit):
        make_shapes.main(['--out', str(tmp_path / 'out'), *arguments])
    assert re.search(shows(*arguments, limit), capsys.readouterr().err.splitlines()[-1])
    assert not (tmp_path / 'out').exists()


def test_folder_that_cannot_be_made(make_shapes, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(SystemExit, match=r'^make_shapes: .*file'):
        make_shapes.main(['--out', str(tmp_path / 'file' / 'out'), *SMALL])
