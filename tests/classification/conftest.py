"""A tiny labelled data set, a pre-trained encoder, and the tools run in this process."""

import runpy
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from PIL import Image

from tests.conftest import ROOT, forget_runs

CLASSES = 6


@pytest.fixture(scope='session')
def labelled_folder(tmp_path_factory):
    """An ImageNet-style root with 6 classes, each of a colour: 3 images to train on, 2 to test."""
    root = tmp_path_factory.mktemp('labelled')
    rng = np.random.default_rng(0)
    colours = rng.integers(40, 216, (CLASSES, 1, 1, 3))
    for label in range(CLASSES):
        for split, count in (('train', 3), ('val', 2)):
            folder = root / split / f'class_{label}'
            folder.mkdir(parents=True)
            for i in range(count):
                image = (colours[label] + rng.integers(-40, 40, (56, 56, 3))).astype(np.uint8)
                Image.fromarray(image).save(folder / f'{i}.png')
    return root


def options(root, *more):
    """``--cfg-options`` that shrink a demo config to three steps of four images of ``root``."""
    return [
        f'{split}_dataloader.{key}'
        for split in ('train', 'val', 'test')
        for key in (
            f'dataset.dataset.data_root={root}',
            'batch_size=4',
            'num_workers=0',
            'persistent_workers=False',
        )
    ] + [
        'train_cfg.max_iters=3',
        'train_cfg.val_interval=3',
        'default_hooks.checkpoint.interval=3',
        'default_hooks.logger.interval=1',
        f'model.head.num_classes={CLASSES}',
        f'model.data_preprocessor.num_classes={CLASSES}',
        *more,
    ]


def run_tool(name, *args):
    """tools/NAME.py with these arguments, in this process."""
    forget_runs()
    before = sys.argv
    sys.argv = [f'tools/{name}.py', *map(str, args)]
    try:
        runpy.run_path(f'tools/{name}.py', run_name='__main__')
    finally:
        sys.argv = before


@pytest.fixture(scope='session')
def pretrained(tmp_path_factory):
    """A checkpoint of masked FINOLA-B whose encoder differs from its initial state everywhere."""
    cfg = Config.fromfile(ROOT / 'configs/demo/masked_finola_b.py')
    init_default_scope('mmpretrain')
    torch.manual_seed(7)
    model = MODELS.build(cfg.model)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1.1).add_(0.01)
    path = tmp_path_factory.mktemp('pretrained') / 'iter_9.pth'
    meta = dict(cfg=cfg.pretty_text, experiment_name='masked_finola_b', iter=9)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return path
