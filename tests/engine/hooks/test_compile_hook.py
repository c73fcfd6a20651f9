"""Compiled by a backend that only traces: the traced function must be the same."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from finola_mm.engine import CompileHook
from tests.messages import shows


@pytest.fixture
def model(project_root):
    cfg = Config.fromfile('configs/demo/masked_finola_b.py')
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    return MODELS.build(cfg.model).train()


def run(model, hook):
    logger = MMLogger.get_instance('compile', log_level='ERROR')
    hook.before_train(SimpleNamespace(model=model, logger=logger))


def test_the_step_stays_the_same(model):
    images = torch.randn(2, 3, 64, 64)
    names = list(model.state_dict())
    samples = [DataSample(metainfo=dict(block_offset=offset)) for offset in ((0, 1), (2, 2))]
    loss = model.loss(images, samples)['loss']
    run(model, CompileHook(backend='eager'))
    compiled = model.loss(images, samples)['loss']
    torch.testing.assert_close(compiled, loss)
    compiled.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert list(model.state_dict()) == names
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] >= 2


def test_a_missing_part(model):
    with pytest.raises(ValueError, match=shows('MaskedFINOLA', 'decoder')):
        run(model, CompileHook(parts=['backbone', 'decoder']))
