"""tools/train.py refuses to start a detection run over bad annotations or bad images."""

import json
import re

import pytest

from tests.forks import run_script
from tests.messages import shows
from tests.tools import small_detector


@pytest.fixture
def scenes(tmp_path):
    return small_detector.write_scenes(tmp_path / 'scenes')


def refused(scenes, work_dir):
    """Start a training; return the message that ends it."""
    out = run_script(
        'tools/train.py',
        small_detector.CONFIG,
        '--pretrained',
        'none',
        '--work-dir',
        work_dir,
        '--cfg-options',
        *small_detector.data_options(scenes),
        expect=1,
    )
    assert 'Traceback' not in out and 'Epoch(train)' not in out
    assert not list(work_dir.glob('**/*.pth'))
    return out[out.index('train: ') :]


@pytest.mark.parametrize(
    ('changes', 'values'),
    [
        (
            [dict(bbox=[1, 1, float('nan'), 9]), dict(area='81')],
            ['[1, 1, nan, 9]', 'area', "'81'"],
        ),
        (
            [dict(bbox=[20, 20, -9, -9]), dict(bbox=[200, 1, 9, 9]), dict(category_id=99)],
            ['area', '[20.0, 20.0, -9.0, -9.0]', '[200.0, 1.0, 9.0, 9.0]', 'category_id', 99],
        ),
    ],
    ids=['values that are no numbers', 'negative size, outside the image, unknown category'],
)
def test_bad_annotations_are_in_one_message(scenes, tmp_path, changes, values):
    file = scenes / 'annotations/instances_train2017.json'
    content = json.loads(file.read_text())
    for annotation, change in zip(content['annotations'], changes, strict=False):
        annotation.update(change)
    file.write_text(json.dumps(content))
    said = refused(scenes, tmp_path / 'work')
    assert re.search(shows(file, *values), said), said


def test_bad_images_above_the_tolerated_share(scenes, tmp_path):
    bad = scenes / 'train2017/1.jpg'
    bad.write_bytes(bad.read_bytes()[:300])
    said = refused(scenes, tmp_path / 'work')
    assert re.search(shows(bad, 'instances_train2017.json') + r'(?=.*\b1\b)(?=.*\b4\b)', said), said
