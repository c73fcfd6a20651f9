"""Encoders under mmdet's own detectors: a training step and a prediction of each config."""

import json

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from PIL import Image

from finola_mm.datasets import SampleKey

# What makes a config small: the encoder's, then the detector's own.
SMALL = {
    'retinanet_mf': {'model.bbox_head.stacked_convs': 1},
    'dino_mf': {
        'model.num_queries': 20,
        'model.encoder.num_layers': 1,
        'model.decoder.num_layers': 2,
        'model.test_cfg.max_per_img': 10,
    },
}
for name in SMALL:
    SMALL[name] |= {
        'model.backbone.arch': 'small',
        'model.neck.in_channels': [96, 256],
        'model.bbox_head.num_classes': 2,
    }
SMALL |= {
    'any/faster_rcnn_resnet18': {
        'model.roi_head.bbox_head.fc_out_channels': 32,
        'model.roi_head.bbox_head.num_classes': 2,
    },
    'any/retinanet_resnet18': {
        'model.bbox_head.stacked_convs': 1,
        'model.bbox_head.num_classes': 2,
    },
    'any/rtmdet_resnet18': {'model.bbox_head.num_classes': 2},
    'any/dino_resnet18': {
        key: value
        for key, value in SMALL['dino_mf'].items()
        if key not in ('model.backbone.arch', 'model.neck.in_channels')
    },
}
SIZES = [(96, 64), (64, 96), (80, 80)]  # width, height


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    """A folder of three images; one of them has no object, one a crowd."""
    root = tmp_path_factory.mktemp('coco')
    images, annotations = [], []
    rng = np.random.default_rng(0)
    for split in ('train2017', 'val2017'):
        (root / split).mkdir()
        for i, (width, height) in enumerate(SIZES):
            pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
            Image.fromarray(pixels).save(root / split / f'{i}.jpg')
    for i, (width, height) in enumerate(SIZES):
        images.append(dict(id=i + 1, file_name=f'{i}.jpg', width=width, height=height))
        for k in range(i):
            box = [5 + 20 * k, 6, 30, 40]
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=i + 1,
                    category_id=3 + 2 * k,
                    bbox=box,
                    area=1200,
                    iscrowd=k,
                )
            )
    content = dict(
        images=images,
        annotations=annotations,
        categories=[dict(id=3, name='cup'), dict(id=5, name='dog')],
    )
    (root / 'annotations').mkdir()
    for split in ('train2017', 'val2017'):
        (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content))
    return root


def load(name, root) -> Config:
    cfg = Config.fromfile(f'configs/det/{name}.py')
    cfg.merge_from_dict(SMALL[name])
    if 'resnet' in name:  # otherwise most gradients of the first step are zero
        cfg.model.backbone.zero_init_residual = False
    for split in ('train', 'val'):
        data = cfg[f'{split}_dataloader'].dataset
        data = data.get('dataset', data)
        data.update(data_root=str(root), metainfo=dict(classes=('cup', 'dog')))
        for step in data.pipeline:
            if step.type in ('Resize', 'mmdet.Resize', 'RandomChoice'):
                step.update(type='Resize', scale=(96, 64), keep_ratio=True)
                step.pop('transforms', None)
        data.get('filter_cfg', {}).update(filter_empty_gt=False)
    init_default_scope(cfg.default_scope)
    return cfg


@pytest.mark.parametrize('name', SMALL)
def test_a_training_step_and_a_prediction(project_root, coco, name):
    torch.manual_seed(0)
    cfg = load(name, coco)
    data = DATASETS.build(cfg.train_dataloader.dataset)
    model = MODELS.build(cfg.model)
    model.init_weights()
    batch = pseudo_collate([data[SampleKey(0, 0, i)] for i in range(len(SIZES))])
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    model.train()
    losses = model.train_step(batch, build_optim_wrapper(model, cfg.optim_wrapper))
    assert all(value.isfinite().all() for value in losses.values())
    changed = {
        key
        for key, value in model.backbone.state_dict().items()
        if not torch.equal(value, before[key])
    }
    trained = {key for key, _ in model.backbone.named_parameters()}
    assert trained <= changed
    assert changed == trained or not cfg.model.backbone.norm_eval  # else no BatchNorm buffer

    data = DATASETS.build(cfg.val_dataloader.dataset)
    results = model.eval().test_step(pseudo_collate([data[i] for i in range(len(SIZES))]))
    for result, (width, height) in zip(results, SIZES, strict=True):
        found = result.pred_instances
        assert found.bboxes.shape == (len(found), 4)
        assert found.scores.isfinite().all() and ((found.labels == 0) | (found.labels == 1)).all()
        limits = found.bboxes.new_tensor([width, height, width, height])
        assert (found.bboxes >= 0).all() and (found.bboxes <= limits + 1e-3).all()
    if 'dino' in name:  # it keeps a fixed number, whatever their scores
        assert all(len(result.pred_instances) == 10 for result in results)


@pytest.mark.parametrize(
    ('name', 'strides'), [('retinanet_mf', (8, 16, 32, 64, 128)), ('dino_mf', (8, 16, 32, 64))]
)
def test_the_full_encoder_fits_the_pyramid(project_root, name, strides):
    cfg = Config.fromfile(f'configs/det/{name}.py')
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        model = MODELS.build(cfg.model).eval()
        maps = model.neck(model.backbone(torch.empty(1, 3, 256, 384)))
    assert [tuple(z.shape[2:]) for z in maps] == [(256 // s, 384 // s) for s in strides]
