"""``finola_mm.MobileFormer`` builds wherever a host package would build a backbone of its own."""

import pytest
import torch
from mmengine.registry import MODELS as ROOT
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS as MMPRETRAIN

from finola_mm import MobileFormer
from finola_mm.registry import MODELS

BACKBONE = dict(type='finola_mm.MobileFormer', arch='small')
CLASSIFIER = dict(
    type='ImageClassifier',
    backbone=BACKBONE,
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=256),
)
DETECTOR = dict(
    type='RetinaNet',
    backbone=dict(**BACKBONE, out_indices=(2, 3)),
    neck=dict(type='FPN', in_channels=[96, 128], out_channels=16, num_outs=2),
    bbox_head=dict(
        type='RetinaHead',
        num_classes=3,
        in_channels=16,
        feat_channels=16,
        anchor_generator=dict(
            type='AnchorGenerator',
            octave_base_scale=4,
            scales_per_octave=3,
            ratios=[1.0],
            strides=[8, 16],
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
    ),
)


@pytest.mark.parametrize('registry', [ROOT, MODELS, MMPRETRAIN])
def test_alone(registry):
    assert type(registry.build(BACKBONE)) is MobileFormer


def test_inside_a_classifier():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = ROOT.build(CLASSIFIER)
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 3)


def test_inside_a_detector():
    from mmdet.registry import MODELS as MMDET  # importing mmdet's models needs compiled ops

    assert type(MMDET.build(BACKBONE)) is MobileFormer
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MMDET.build(DETECTOR)
    assert model.train().backbone.training
    scores, boxes = model(torch.randn(2, 3, 64, 96))
    assert [s.shape[2:] for s in scores] == [(8, 12), (4, 6)]
