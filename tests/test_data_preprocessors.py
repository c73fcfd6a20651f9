"""The data preprocessors give what those of mmpretrain and mmdet give."""

import copy

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample

import finola_mm.classification
import finola_mm.det
import finola_mm.selfsup  # noqa: F401

NORMALIZE = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
MIXUP = dict(alpha=0.2)


def images(*shape):
    return torch.randint(256, shape, dtype=torch.uint8)


def outputs(scope, name, data, *, training=True, **settings):
    """Those of the class ``name`` of mmpretrain or mmdet, and those of ours."""
    init_default_scope(scope)
    for kind in (f'{scope}.{name}', f'finola_mm.{name}'):
        preprocessor = MODELS.build(dict(type=kind, **NORMALIZE, **settings))
        np.random.seed(0)
        torch.manual_seed(0)
        yield preprocessor(copy.deepcopy(data), training)


@pytest.mark.parametrize('to_rgb', [False, True])
@pytest.mark.parametrize('views', [1, 2])
def test_selfsup(to_rgb, views):
    batch = [images(2, 3, 8, 9) for _ in range(views)]
    data = dict(inputs=batch if views > 1 else batch[0], data_samples=[DataSample(), DataSample()])
    expected, found = outputs('mmpretrain', 'SelfSupDataPreprocessor', data, to_rgb=to_rgb)
    torch.testing.assert_close(found['inputs'], expected['inputs'], rtol=0, atol=0)
    assert len(found['data_samples']) == 2


@pytest.mark.parametrize('bgr_to_rgb', [False, True])
def test_det(bgr_to_rgb):
    samples = [DetDataSample(metainfo=dict(img_shape=size)) for size in ((8, 9), (6, 12))]
    data = dict(inputs=[images(3, 8, 9), images(3, 6, 12)], data_samples=samples)
    settings = dict(bgr_to_rgb=bgr_to_rgb, pad_size_divisor=1)
    expected, found = outputs('mmdet', 'DetDataPreprocessor', data, **settings)
    assert torch.equal(found['inputs'], expected['inputs'])
    for ours, theirs in zip(found['data_samples'], expected['data_samples'], strict=True):
        assert ours.metainfo == theirs.metainfo


@pytest.mark.parametrize('mixup', [False, True])
def test_cls(mixup):
    samples = [DataSample().set_gt_label(label) for label in (2, 0, [1], 2)]
    data = dict(inputs=images(4, 3, 8, 9), data_samples=samples)
    kinds = ['mmpretrain.Mixup', 'finola_mm.Mixup'] if mixup else [None]
    results = []
    for kind in kinds:
        augments = kind and dict(augments=[dict(type=kind, **MIXUP)])
        settings = dict(to_rgb=True, num_classes=3, batch_augments=augments)
        results += outputs('mmpretrain', 'ClsDataPreprocessor', data, **settings)
    expected, *others = results
    for found in others:
        assert torch.equal(found['inputs'], expected['inputs'])
        for ours, theirs in zip(found['data_samples'], expected['data_samples'], strict=True):
            assert torch.equal(ours.gt_label, theirs.gt_label)
            assert not mixup or torch.equal(ours.gt_score, theirs.gt_score)


def test_images_without_labels():
    data = dict(inputs=images(2, 3, 8, 9), data_samples=[DataSample(), DataSample()])
    expected, found = outputs('mmpretrain', 'ClsDataPreprocessor', data, training=False)
    assert torch.equal(found['inputs'], expected['inputs'])
