"""The detection configs with the Mobile-Former decoder: sizes, schedules, what is frozen."""

import re
import runpy
import sys
from functools import cache
from itertools import product
from pathlib import Path

import pytest
import torch
from mmdet.registry import DATASETS, HOOKS, MODELS, TASK_UTILS, TRANSFORMS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import get_priority

import finola_mm.det  # noqa: F401
from finola_mm.engine import SyncBuffersHook
from tests.messages import shows

ROOT = Path(__file__).parents[2]
# Parameters of the encoder, and of decoder and head, in millions: published.
ENCODER = {'': 25.0, '_w1440': 11.7, '_w720': 4.9}
DECODER = {
    ('522', ''): 19.4,
    ('522', '_w1440'): 18.6,
    ('522', '_w720'): 18.2,
    ('211', ''): 9.2,
    ('211', '_w1440'): 8.4,
    ('211', '_w720'): 8.0,
}
CONFIGS = [
    f'configs/det/detr_mf_dec{arch}{width}{twin}.py'
    for (arch, width), twin in product(DECODER, ('', '_finetune'))
]
FINETUNED = [path for path in CONFIGS if path.endswith('_finetune.py')]


@cache
def load(path):
    """A config and its model."""
    cfg = Config.fromfile(ROOT / path)
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        return cfg, MODELS.build(cfg.model)


def millions(*modules):
    return sum(p.numel() for module in modules for p in module.parameters()) / 1e6


@pytest.mark.parametrize('arch, width', DECODER)
@pytest.mark.parametrize('twin', ['', '_finetune'])
def test_sizes(arch, width, twin):
    cfg, model = load(f'configs/det/detr_mf_dec{arch}{width}{twin}.py')
    assert millions(model.backbone) == pytest.approx(ENCODER[width], rel=0.02)
    assert millions(model.decoder, model.bbox_head) == pytest.approx(DECODER[arch, width], rel=0.02)
    with torch.no_grad():
        queries = model.refine(torch.empty(1, 3, 64, 96, device='meta'))
    assert queries.shape == (sum(int(digit) for digit in arch), 1, 100, 256)


@pytest.mark.parametrize('path', CONFIGS)
def test_the_paper_s_settings(path):
    cfg, model = load(path)
    finetuned = path in FINETUNED
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[0].end == (200 if finetuned else 500)
    assert cfg.param_scheduler[0].milestones == [150 if finetuned else 400]
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer == dict(type='AdamW', lr=1e-5 if finetuned else 1e-4, weight_decay=1e-4)
    assert cfg.optim_wrapper.clip_grad.max_norm == 0.1
    assert cfg.auto_scale_lr.base_batch_size == 16
    drops = {m.p for m in model.decoder.modules() if isinstance(m, torch.nn.Dropout)}
    assert drops == {0.1}
    init_default_scope('mmdet')
    costs = TASK_UTILS.build(cfg.model.train_cfg.assigner).match_costs
    assert [cost.weight for cost in costs] == [1.0, 5.0, 2.0]
    head = model.bbox_head
    assert (head.bg_cls_weight, head.loss_bbox.loss_weight, head.loss_iou.loss_weight) == (
        0.1,
        5,
        2,
    )
    assert head.loss_cls.class_weight == [1.0] * 80 + [0.1]


@pytest.mark.parametrize('path', CONFIGS)
def test_the_encoder_is_frozen_or_trained(path):
    _, model = load(path)
    trained = {p.requires_grad for p in model.backbone.parameters()}
    assert trained == ({True} if path in FINETUNED else {False})
    norms = [m for m in model.train().backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and not any(m.training for m in norms)
    assert all(p.requires_grad for p in model.decoder.parameters())


@pytest.mark.parametrize('path', FINETUNED)
def test_finetuning_starts_where_the_frozen_run_ends(path):
    cfg, model = load(path)
    frozen = path.replace('_finetune', '')
    frozen_cfg, frozen_model = load(frozen)
    epochs = frozen_cfg.train_cfg.max_epochs
    assert epochs % frozen_cfg.default_hooks.checkpoint.interval == 0
    assert cfg.load_from == f'work_dirs/{Path(frozen).stem}/epoch_{epochs}.pth'
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in frozen_model.state_dict().items()
    }


@pytest.mark.parametrize('path', [CONFIGS[0], 'configs/demo/det_mf_dec211.py'])
def test_pipelines_and_hooks_build(path):
    cfg, _ = load(path)
    init_default_scope('mmdet')
    loaders = cfg.train_dataloader.dataset, cfg.val_dataloader, cfg.test_dataloader
    for dataset in (loader.dataset for loader in loaders):
        for transform in dataset.pipeline:
            TRANSFORMS.build(transform)
        DATASETS.build(dict(dataset, lazy_init=True))
    for hook in cfg.custom_hooks:
        HOOKS.build(hook)
    assert dict(type='mmdet.NumClassCheckHook') in cfg.custom_hooks


@pytest.mark.parametrize('pattern', ['configs/det/*.py', 'configs/demo/det_*.py'])
def test_the_metric_is_imported(pattern):
    """An import by another test would hide a missing one."""
    for path in ROOT.glob(pattern):
        cfg = Config.fromfile(path)
        assert cfg.val_evaluator.type == cfg.test_evaluator.type == 'finola_mm.CocoMetric'
        assert 'finola_mm.det' in cfg.custom_imports.imports


@pytest.mark.parametrize('path', CONFIGS)
def test_running_statistics_are_shared_before_they_are_saved(path):
    """Or each process would evaluate another model, and none but the first its checkpoint."""
    cfg, model = load(path)
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in model.decoder.modules())
    init_default_scope('mmdet')
    sync = [HOOKS.build(hook) for hook in cfg.custom_hooks if 'SyncBuffersHook' in hook.type]
    assert [type(hook) for hook in sync] == [SyncBuffersHook]
    saves = HOOKS.build(dict(cfg.default_hooks.checkpoint))
    assert get_priority(sync[0].priority) < get_priority(saves.priority)


def test_the_demo_s_classes():
    cfg, model = load('configs/demo/det_mf_dec211.py')
    classes = cfg.train_dataloader.dataset.dataset.metainfo.classes
    assert classes == cfg.val_dataloader.dataset.metainfo.classes
    assert len(classes) == model.bbox_head.num_classes == 12


@pytest.mark.skipif(
    not hasattr(torch, 'get_autocast_dtype'), reason='torch counts by module since 2.4'
)
def test_get_flops_shows_a_detector_beside_the_paper(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    options = ['configs/det/detr_mf_dec211_w720.py', '--shape', '64', '64']
    monkeypatch.setattr(sys, 'argv', ['get_flops.py', *options])
    runpy.run_path('tools/analysis/get_flops.py', run_name='__main__')
    out = capsys.readouterr().out
    assert re.search(r'(?=.*MobileFormerDETR).*\b800 x 1333\b', out)
    rows = re.findall(r'^ +(\w+) +[\d.]+ +([\d.]+)', out, re.MULTILINE)
    rows = {name: float(madds) for name, madds in rows}
    assert rows['backbone'] == pytest.approx(5.5, rel=0.01)
    assert rows['decoder'] + rows['bbox_head'] == pytest.approx(12.34, rel=0.01)
    assert re.search(shows('12.9 M', '17.8 G', '8.0 M', '12.2 G'), out)
