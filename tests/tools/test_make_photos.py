"""The data set of photographs, made from small pictures in place of those in the packages."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from finola_mm.datasets.photos import PACKAGES
from finola_mm.errors import UserError
from tests.datasets import fake_photos
from tests.messages import shows


@pytest.fixture(scope='module')
def tool():
    return fake_photos.load_tool()


@pytest.fixture(scope='module')
def made(tool, tmp_path_factory):
    out = tmp_path_factory.mktemp('photos') / 'out'
    tool.main(['--tiny', '--out', str(out), '--downloads', str(out.parent / 'downloads')])
    return out


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file()
    }


def rows(folder):
    return list(csv.DictReader((folder / 'manifest.csv').read_text().splitlines()))


def test_made_in_two_runs_and_left_alone_when_complete(tool, made, tmp_path, monkeypatch, capsys):
    """Without some packages the rest is made; later the same command completes it."""
    lost = ('tuxpaint-stamps-default', 'krank', 'deepforest')
    out = tmp_path / 'out'
    arguments = ['--tiny', '--out', str(out), '--downloads', str(tmp_path / 'downloads')]

    def download(package, folder):
        if package.name in lost:
            raise UserError(package.name)
        return fake_photos.download(package, folder)

    with monkeypatch.context() as patch:
        patch.setattr(tool, 'download', download)
        tool.main(arguments)
    printed = capsys.readouterr().out
    for name in lost:
        assert PACKAGES[name].contents in printed
    assert not {row['package'] for row in rows(out)} & set(lost)
    assert {path.name for path in out.iterdir() if path.is_dir()} == {'photos', 'cls'}
    tool.main(arguments)
    assert contents(out) == contents(made)
    before = {path: path.stat().st_mtime_ns for path in out.rglob('*')}
    tool.main(arguments)
    assert {path: path.stat().st_mtime_ns for path in out.rglob('*')} == before
    with pytest.raises(SystemExit, match=shows(out, 'photos.json', 'tiny')):
        tool.main(['--out', str(out)])


def test_manifest_names_the_origin_of_every_picture(made):
    listed = [pattern for row in rows(made) for pattern in made.glob(row['file'])]
    written = [*made.glob('photos/*/*.jpg'), *made.glob('extra/*/*/*.jpg')]
    written += [*made.glob('cls/objects12/*/*/*.jpg'), *made.glob('cls/fashion_mnist/*')]
    assert Counter(listed) == Counter(written)
    for row in rows(made):
        package = PACKAGES[row['package']]
        assert row['version'] == package.version and row['path'].startswith(package.root)
        assert row['licence'] and len(row['sha256']) == 64
        if row['file'].startswith('photos/'):
            assert max(Image.open(made / row['file']).size) <= 320
    splits = {}
    for row in rows(made):
        splits.setdefault(row['sha256'], set()).add(row['split'])
    assert all(len(found) == 1 for found in splits.values())


@pytest.mark.parametrize('name', ['photopaste', 'trees'])
def test_coco_masks_areas_and_boxes(made, name):
    """Ground truth as detections has an AP of 1."""
    for file in made.glob(f'det/{name}/annotations/*.json'):
        coco = COCO(file)
        folder = file.parents[1] / file.stem.removeprefix('instances_')
        assert {path.name for path in folder.iterdir()} == {
            image['file_name'] for image in coco.dataset['images']
        }
        for annotation in coco.dataset['annotations']:
            area = coco.annToMask(annotation).sum()
            assert area == pytest.approx(annotation['area'], rel=0.15 * (name == 'trees'))
        detections = [
            dict(score=1.0, **{key: a[key] for key in ('image_id', 'category_id', 'bbox')})
            for a in coco.dataset['annotations']
        ]
        evaluation = COCOeval(coco, coco.loadRes(detections), 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] == 1
    used = {}
    for split in ('train', 'val') if name == 'photopaste' else ():
        content = json.loads((file.parent / f'instances_{split}.json').read_text())
        used[split] = {image['background'] for image in content['images']}
        used[split] |= {annotation['object'] for annotation in content['annotations']}
        photographs = {path.name for path in (made / 'photos' / split).iterdir()}
        assert {image['background'] for image in content['images']} <= photographs
    assert not used or not used['train'] & used['val']


def test_small_needs_no_large_package(tool, tmp_path):
    originals = tool.read_originals(tmp_path, fake_photos.photographs(), small=True, form=tool.TINY)
    assert {*originals.files} <= {package.name for package in PACKAGES.values() if package.small}
    assert len(originals.files) >= 5 and not originals.missing


def test_damaged_data_are_reported(tool, made, tmp_path):
    """The tool's own checks, on a copy with one fault of each kind."""
    for path, data in contents(made).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    assert list(tool.find_mistakes(tmp_path)) == []
    scene, photograph = tmp_path / 'det/photopaste/val/000001.jpg', tmp_path / rows(made)[0]['file']
    scene.unlink()
    photograph.write_bytes(b'<html>')
    file = tmp_path / 'det/trees/annotations/instances_val.json'
    content = json.loads(file.read_text())
    for annotation in content['annotations']:
        annotation['bbox'][0] += 10**4
    file.write_text(json.dumps(content))
    (tmp_path / 'cls/photo12/val/zebra').mkdir()
    lines = list(tool.find_mistakes(tmp_path))
    for fault in (scene, photograph, file, 'zebra'):
        assert sum(str(fault) in line for line in lines) == 1, fault
    assert len(lines) == 4


def test_pictures_are_what_was_drawn(tool, made):
    """A stored photograph is the original, up to JPEG's loss."""
    row = next(row for row in rows(made) if row['file'].startswith('photos/'))
    path = row['path'].removeprefix(PACKAGES[row['package']].root)
    original = tool.decode_picture(fake_photos.content(path))
    stored = Image.open(made / row['file'])
    difference = np.subtract(original.resize(stored.size), stored, dtype=int)
    assert np.abs(difference).mean() < 6
    assert Path(row['file']).suffix == '.jpg'
