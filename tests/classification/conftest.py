"""A tiny labelled data set, a pre-trained encoder, and the tools run in this process."""

import runpy
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS

from tests.conftest import CLASSES, ROOT, forget_runs


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
    encoder = dict(type='finola_mm.MobileFormer', arch='small')
    meta = dict(source='masked_finola_b', iter=9, encoder=encoder)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return path
