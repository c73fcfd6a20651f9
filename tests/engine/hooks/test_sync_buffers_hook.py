from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, get_priority
from torch import nn

from finola_mm.engine import AtomicCheckpointHook, SyncBuffersHook
from finola_mm.engine.hooks import sync_buffers_hook
from finola_mm.evaluation import KNNHook


@pytest.fixture
def model():
    """A frozen and a trained part; a third of their statistics is not exact in floating point."""
    model = nn.ModuleDict(
        dict(
            frozen=nn.BatchNorm2d(4).eval(),
            trained=nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)),
        )
    )
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.rand(4, generator=torch.Generator().manual_seed(0)))
        else:
            buffer.fill_(7)
    return model


@pytest.fixture
def three_ranks(monkeypatch):
    """Two other ranks with buffers of 0: the average is a third of this rank's."""

    def average(params, op):
        assert op == 'mean'
        for param in params:
            param.copy_(param / 3)

    monkeypatch.setattr(sync_buffers_hook, 'is_distributed', lambda: True)
    monkeypatch.setattr(sync_buffers_hook, 'all_reduce_params', average)


@pytest.fixture
def runner(model):
    return SimpleNamespace(model=model, hooks=[])


def assert_averaged(model, before):
    """Buffers of the trained part are divided by 3, those of the frozen part unchanged."""
    for name, buffer in model.named_buffers():
        if name.startswith('frozen'):
            assert torch.equal(buffer, before[name])
        elif buffer.is_floating_point():
            torch.testing.assert_close(buffer, before[name] / 3)
        else:  # an integer: equal on all ranks, and a sum of uint8 over 256 ranks is 0
            assert torch.equal(buffer, before[name])


def test_only_trained_parts_are_averaged(runner, three_ranks):
    before = deepcopy(dict(runner.model.named_buffers()))
    SyncBuffersHook().after_train_epoch(runner)
    assert_averaged(runner.model, before)


def test_the_average_of_ema(runner, three_ranks):
    """All modules of the average are in training mode, also those frozen in the model."""
    ema = EMAHook()
    ema.before_run(runner)
    ema.ema_model.train()
    runner.hooks = [ema]
    before = deepcopy(dict(runner.model.named_buffers()))
    SyncBuffersHook().after_train_epoch(runner)
    assert_averaged(ema.ema_model.module, before)


def test_one_rank_averages_nothing(runner, monkeypatch):
    monkeypatch.setattr(sync_buffers_hook, 'all_reduce_params', None)
    SyncBuffersHook().after_train_epoch(runner)


@pytest.mark.parametrize(
    'loop, averages', [(EpochBasedTrainLoop, False), (IterBasedTrainLoop, True)]
)
def test_iterations_count_where_there_are_no_epochs(runner, three_ranks, loop, averages):
    trained = runner.model.trained[1]
    before = trained.running_mean.clone()
    runner.train_loop = loop.__new__(loop)
    SyncBuffersHook().after_train_iter(runner, 0)
    torch.testing.assert_close(trained.running_mean, before / 3 if averages else before)


def test_it_precedes_evaluation_and_checkpoints():
    """kNN is the first of them; MMEngine's priority would be too late."""
    priorities = [
        get_priority(hook.priority)
        for hook in (SyncBuffersHook(), KNNHook(), AtomicCheckpointHook())
    ]
    assert priorities == sorted(priorities) and len(set(priorities)) == 3
