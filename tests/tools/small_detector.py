"""A small variant of the demo's detector with random weights, and four scenes in COCO format."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from finola_mm.environment import installed_stack

host_inferencer = pytest.mark.skipif(
    installed_stack() == 'openmmlab',
    reason='the inferencer of mmdet 3.3.0 accepts no loader of another package',
)

CONFIG = 'configs/demo/det_mf_dec211.py'
MODEL = [
    'model.decoder.arch=(1,1,1)',
    'model.decoder.dim=32',
    'model.decoder.heads=4',
    'model.decoder.hidden=32',
    'model.decoder.num_queries=8',
    'model.test_cfg.max_per_img=8',
]


def data_options(root) -> list[str]:
    """Return ``--cfg-options`` that replace the shapes by the scenes of ``root``."""
    options = [f'train_dataloader.dataset.dataset.data_root={root}']
    for split in ('val', 'test'):
        options += [
            f'{split}_dataloader.dataset.data_root={root}',
            f'{split}_evaluator.ann_file={root}/annotations/instances_val2017.json',
        ]
    for split in ('train', 'val', 'test'):
        options += [
            f'{split}_dataloader.num_workers=0',
            f'{split}_dataloader.persistent_workers=False',
        ]
    return options


def write_checkpoint(path, options=MODEL, config=CONFIG):
    """Random weights of a detector, the demo's, as ``options`` change it.

    The small one keeps all of its queries, so that each picture has 8 objects.
    """
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(
        dict(
            (key, DictAction._parse_iterable(value))
            for key, value in (option.split('=') for option in options)
        )
    )
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return path


def write_scenes(root, count=4):
    """Images with an object of every third class, the same for training and for validation."""
    classes = Config.fromfile(CONFIG).train_dataloader.dataset.dataset.metainfo.classes
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(count):
        images.append(dict(id=i + 1, file_name=f'{i}.jpg', width=80, height=60))
        for k in range(i % 4, len(classes), 3):
            box = [5.0 + k, 4.0 + k, 30.0, 25.0]
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=i + 1,
                    bbox=box,
                    area=750,
                    category_id=2 * k + 1,
                    iscrowd=0,
                )
            )
    content = dict(
        images=images,
        annotations=annotations,
        categories=[dict(id=2 * k + 1, name=name) for k, name in enumerate(classes)],
    )
    (root / 'annotations').mkdir(parents=True)
    for split in ('train', 'val'):
        (root / f'{split}2017').mkdir()
        for image in images:
            pixels = rng.integers(0, 256, (60, 80, 3), np.uint8)
            Image.fromarray(pixels).save(root / f'{split}2017' / image['file_name'])
        file = root / 'annotations' / f'instances_{split}2017.json'
        file.write_text(json.dumps(content))
    return root
