"""Detectors from Python; the tool that uses them is tested in tests/tools/test_detect.py."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer
from mmengine.config import Config
from PIL import Image

import finola_mm
from finola_mm.apis.detection import Detections, load_detector
from finola_mm.datasets.shapes import NAMES
from finola_mm.engine import register_checkpoint_io
from finola_mm.errors import CheckpointError, UserError
from tests.apis.test_images import write_video
from tests.conftest import ROOT
from tests.messages import shows
from tests.tools import small_detector

PUBLISHED = 'det_mf_dec211_shapes'


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    return small_detector.write_scenes(tmp_path_factory.mktemp('coco')) / 'val2017'


@pytest.fixture(scope='module')
def detector():
    return load_detector(PUBLISHED)


def same(ours, theirs, atol=0.0):
    np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=atol)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=atol)
    np.testing.assert_array_equal(ours.labels, theirs.labels)


@small_detector.host_inferencer
def test_published_by_name(detector, scenes):
    """The same classes and objects as in mmdet's inferencer, which loads it by name, too."""
    assert finola_mm.load_detector is load_detector
    assert detector.classes == tuple(NAMES)
    register_checkpoint_io()
    inferencer = DetInferencer('demo/det_mf_dec211', scope='finola_mm', show_progress=False)
    assert tuple(inferencer.model.dataset_meta['classes']) == tuple(NAMES)
    (expected,) = inferencer(str(scenes / '0.jpg'))['predictions']
    found = detector.predict(scenes / '0.jpg', threshold=0)
    assert found.boxes.dtype == found.scores.dtype == np.float32 and found.labels.dtype == np.int64
    np.testing.assert_allclose(found.boxes, expected['bboxes'], atol=1e-3)
    np.testing.assert_allclose(found.scores, expected['scores'], atol=1e-5)
    assert found.labels.tolist() == expected['labels']
    assert found.names == [NAMES[label] for label in expected['labels']]
    assert json.loads(json.dumps(found.to_dict())).keys() == {*expected, 'names'}


def test_forms_of_images(detector, scenes, tmp_path):
    """A file, a PIL image, an array, a list, a folder and the frames of a video."""
    files = sorted(scenes.glob('*.jpg'))
    images = [Image.open(file) for file in files]
    arrays = [np.asarray(image) for image in images]
    single = [detector.predict(str(file), threshold=0) for file in files]
    assert [len(found) for found in single] == [25] * 4
    same(detector.predict(images[1], threshold=0), single[1])
    same(detector.predict(arrays[1], threshold=0), single[1])
    video = write_video(tmp_path / 'video.avi', arrays)
    for several in (scenes, files, images, iter(arrays), video):
        found = detector.predict(several, threshold=0, batch_size=3)
        assert len(found) == 4
        for ours, theirs in zip(found, single, strict=True):
            same(ours, theirs, atol=1e-3)  # of another batch size
    for (frame, found), array, expected in zip(
        detector.stream(video, threshold=0), arrays, single, strict=True
    ):
        np.testing.assert_array_equal(frame, array)
        same(found, expected)


def test_threshold(detector, scenes):
    every = detector.predict(scenes / '0.jpg', threshold=0)
    middle = float(np.median(every.scores))
    kept = detector.predict(scenes / '0.jpg', threshold=middle)
    assert 0 < len(kept) < len(every) and (kept.scores >= middle).all()
    same(every.above(middle), kept)
    nothing = every.above(1)
    assert (
        nothing.boxes.shape == (0, 4) and nothing.names == [] and nothing.to_dict()['names'] == []
    )


def test_draw(detector):
    """A frame around the object, and its name at the upper left."""
    image = np.full((60, 80, 3), 128, np.uint8)
    box = np.array([[20, 10, 60, 50]], np.float32)
    found = Detections(box, np.ones(1, np.float32), np.zeros(1, np.int64), detector.classes)
    drawn = detector.draw(image, found)
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    changed = (drawn != image).any(2)
    assert changed[10:50, (20, 60)].all() and changed[(10, 50), 20:60].all()
    assert not changed[25:45, 25:55].any() and not changed[:, :15].any() and not changed[55:].any()
    np.testing.assert_array_equal(detector.draw(image, found.above(2)), image)
    np.testing.assert_array_equal(detector.draw(Image.fromarray(image), found), drawn)


def test_supervision(monkeypatch):
    """The arrays in the form of supervision; the package itself, if it is installed."""
    boxes = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32)
    found = Detections(boxes, np.array([0.5, 0.25], np.float32), np.array([1, 0]), ('cat', 'dog'))
    monkeypatch.setitem(sys.modules, 'supervision', None)
    with pytest.raises(UserError, match=shows('supervision', 'pip install')):
        found.to_supervision()
    monkeypatch.setitem(sys.modules, 'supervision', SimpleNamespace(Detections=dict))
    arrays = found.to_supervision()
    assert arrays.keys() == {'xyxy', 'confidence', 'class_id', 'mask', 'data'}
    assert arrays['xyxy'] is boxes and arrays['confidence'].tolist() == [0.5, 0.25]
    assert arrays['class_id'].tolist() == [1, 0]
    assert arrays['data']['class_name'].tolist() == ['dog', 'cat']
    monkeypatch.undo()
    supervision = pytest.importorskip('supervision')
    for several in (found, found.above(0.4), found.above(2)):
        theirs = several.to_supervision()
        assert isinstance(theirs, supervision.Detections) and len(theirs) == len(several)
        assert theirs['class_name'].tolist() == several.names


def test_work_directory(project_root, scenes, tmp_path):
    """The config that the run wrote next to its checkpoint is used."""
    cfg = Config.fromfile(small_detector.CONFIG)
    cfg.merge_from_dict(dict(model=dict(decoder=dict(num_queries=8), test_cfg=dict(max_per_img=8))))
    cfg.dump(tmp_path / 'own.py')
    options = ['model.decoder.num_queries=8', 'model.test_cfg.max_per_img=8']
    file = small_detector.write_checkpoint(tmp_path / 'epoch_1.pth', options)
    content = torch.load(file, weights_only=False)
    content['meta'] = dict(source='own')
    torch.save(content, file)
    (tmp_path / 'last_checkpoint').write_text(str(file))
    given = load_detector(file, cfg).predict(scenes / '0.jpg', threshold=0)
    assert len(given) == 8
    for source in (tmp_path, file, file.as_uri()):
        same(load_detector(source).predict(scenes / '0.jpg', threshold=0), given)
    (tmp_path / 'own.py').unlink()
    with pytest.raises(UserError, match=shows(file)):
        load_detector(file)


@small_detector.host_inferencer
def test_masks(scenes, tmp_path):
    """Those of mmdet's inferencer, for an instance segmenter with random weights."""
    config, file = tmp_path / 'mask_rcnn.py', tmp_path / 'mask_rcnn.pth'
    base = ROOT / 'configs/_base_'
    config.write_text(f"""
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    '{base}/coco_detection.py',
    '{base}/detection_runtime.py',
]
model = dict(
    backbone=dict(depth=18, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256, 512]),
    roi_head=dict(bbox_head=dict(fc_out_channels=32)),
    test_cfg=dict(rpn=dict(max_per_img=5), rcnn=dict(score_thr=0.0, max_per_img=5)),
)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (96, 96)
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
""")
    small_detector.write_checkpoint(file, [], config)
    found = load_detector(file, config).predict(scenes / '0.jpg', threshold=0)
    assert found.masks.shape == (5, 60, 80) and found.masks.dtype == bool and found.masks.any()
    register_checkpoint_io()
    inferencer = DetInferencer(str(config), str(file), show_progress=False)
    (expected,) = inferencer(str(scenes / '0.jpg'))['predictions']
    assert found.to_dict()['masks'] == expected['masks']
    best = found.scores.max()
    assert len(found.above(best).masks) == len(found.above(best)) == (found.scores == best).sum()


def test_on_the_cpu_without_cuda_operators(detector, scenes, monkeypatch):
    """The message is that of mmcv's `pytorch_device_registry.hpp`."""
    expected = detector.predict(scenes / '0.jpg', threshold=0)
    test_step = detector.model.test_step

    def without_operator(batch):
        monkeypatch.setattr(detector.model, 'test_step', test_step)
        raise RuntimeError('nms_impl: implementation for device cuda:0 not found.\n')

    monkeypatch.setattr(detector.model, 'test_step', without_operator)
    with pytest.warns(UserWarning, match=shows('nms_impl', 'tools/check/env.py')):
        found = detector.predict(scenes / '0.jpg', threshold=0)
    assert (found.boxes == expected.boxes).all() and (found.scores == expected.scores).all()


def test_refuses(scenes):
    with pytest.raises(CheckpointError, match=shows('nowhere.pth')):
        load_detector('nowhere.pth')
    with pytest.raises(UserError, match=shows('ImageClassifier')):
        load_detector(PUBLISHED, ROOT / 'configs/demo/cls_supervised.py')
    with pytest.raises(CheckpointError, match=shows('masked_finola_b_shapes')):
        load_detector('masked_finola_b_shapes', 'demo/det_mf_dec211')
