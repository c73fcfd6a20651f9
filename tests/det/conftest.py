"""A small detector and batches of images with boxes."""

from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

import finola_mm.det  # noqa: F401

ROOT = Path(__file__).parents[2]
CLASSES = 12


def detector_config(**decoder):
    """The demo's detector with narrower queries."""
    model = Config.fromfile(ROOT / 'configs/demo/det_mf_dec211.py').model
    model.decoder.update(dim=32, heads=4, hidden=32, num_queries=8, **decoder)
    model.test_cfg = dict(max_per_img=8)
    return model


@pytest.fixture
def build():
    """Build a detector, always the same, from ``detector_config`` or what is given."""

    def build(config=None, *, frozen=True):
        init_default_scope('mmdet')
        config = config or detector_config()
        config.backbone.frozen_stages = 5 if frozen else -1
        torch.manual_seed(0)
        return MODELS.build(config)

    return build


def sample(size, boxes, labels, shape, name='a.jpg'):
    """A data sample of an image of ``size`` in a batch of ``shape``."""
    instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.long),
    )
    return DetDataSample(
        gt_instances=instances,
        metainfo=dict(
            img_shape=size,
            ori_shape=size,
            pad_shape=size,
            batch_input_shape=shape,
            scale_factor=(1.0, 1.0),
            img_path=name,
            img_id=0,
        ),
    )


@pytest.fixture
def batch():
    """Three images of different sizes; the second shows nothing."""
    torch.manual_seed(1)
    shape = (70, 96)
    images = torch.zeros(3, 3, *shape)
    sizes = [(70, 96), (64, 50), (33, 71)]
    for image, (h, w) in zip(images, sizes, strict=True):
        image[:, :h, :w] = torch.randn(3, h, w)
    samples = [
        sample(sizes[0], [(5, 6, 40, 50), (30, 10, 90, 60)], [3, 11], shape, 'first.jpg'),
        sample(sizes[1], [], [], shape, 'second.jpg'),
        sample(sizes[2], [(0, 0, 71, 33)], [0], shape, 'third.jpg'),
    ]
    return images, samples
