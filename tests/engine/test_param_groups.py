"""Merged optimizer groups train as one group for each tensor does, and resume its checkpoints."""

import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import LinearLR, build_optim_wrapper
from mmengine.optim.scheduler import CosineRestartLR
from torch import nn

from finola_mm.engine import merge_param_groups
from finola_mm.engine.resume_settings import apply_settings

OPTIM_WRAPPER = dict(
    optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.1),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={'0': dict(lr_mult=0.5), 'frozen': dict(lr_mult=0.0)},
    ),
)


def model():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 5), nn.Linear(5, 2))
    module[2].weight.requires_grad = False
    return module


class Run:
    """A model, its optimizer and two schedulers, one of which needs each group's base value."""

    def __init__(self, merged):
        self.model = model()
        self.wrapper = build_optim_wrapper(self.model, copy.deepcopy(OPTIM_WRAPPER))
        if merged:
            merge_param_groups(self.wrapper.optimizer)
        self.schedulers = [
            CosineRestartLR(
                self.wrapper,
                periods=[3, 5],
                restart_weights=[1, 0.5],
                eta_min=1e-4,
                by_epoch=False,
            ),
            LinearLR(self.wrapper, 0.1, end=4, by_epoch=False),
        ]
        self.steps = 0

    def train(self, steps):
        self.steps += steps
        for _ in range(steps):
            self.wrapper.update_params(self.model(torch.ones(2, 3)).square().sum())
            for scheduler in self.schedulers:
                scheduler.step()

    def rates(self):
        """Learning rate and weight decay of every trained tensor."""
        names = {id(p): name for name, p in self.model.named_parameters()}
        return {
            names[id(p)]: (group['lr'], group['weight_decay'])
            for group in self.wrapper.optimizer.param_groups
            for p in group['params']
        }

    def checkpoint(self):
        states = dict(
            meta=dict(epoch=0, iter=self.steps),
            message_hub={},
            state_dict=self.model.state_dict(),
            optimizer=self.wrapper.state_dict(),
            param_schedulers=[scheduler.state_dict() for scheduler in self.schedulers],
        )
        return copy.deepcopy(states)

    def resume(self, checkpoint):
        runner = SimpleNamespace(
            model=self.model,
            optim_wrapper=self.wrapper,
            param_schedulers=self.schedulers,
            max_iters=6,
            max_epochs=1,
            message_hub=SimpleNamespace(runtime_info={}),
        )
        apply_settings(runner, checkpoint, 'a.pth')
        self.model.load_state_dict(checkpoint['state_dict'])
        self.wrapper.load_state_dict(checkpoint['optimizer'])
        for scheduler, state in zip(self.schedulers, checkpoint['param_schedulers'], strict=True):
            scheduler.load_state_dict(state)


def assert_same(run, other):
    assert run.rates() == other.rates()
    for a, b in zip(run.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_merged_groups_train_as_separate_ones():
    separate, merged = Run(merged=False), Run(merged=True)
    assert len(separate.wrapper.optimizer.param_groups) == 7
    # Half the rate with decay; the norm and the biases without decay; the other weights.
    assert len(merged.wrapper.optimizer.param_groups) == 3
    for run in (separate, merged):
        run.train(6)
    assert_same(merged, separate)


@pytest.mark.parametrize('written_merged', [False, True])
def test_checkpoints_resume(written_merged):
    """Also one of separate groups, as earlier versions wrote."""
    whole, first, second = Run(merged=False), Run(merged=written_merged), Run(merged=True)
    whole.train(6)
    first.train(3)
    second.resume(first.checkpoint())
    second.train(3)
    assert_same(second, whole)


def test_groups_of_layer_decay_are_merged():
    """Their only difference may be the name of the tensor."""
    weights = [nn.Parameter(torch.ones(2)) for _ in range(3)]
    groups = [
        dict(params=[p], lr=lr, layer_id=layer, param_name=f'p{i}')
        for i, (p, lr, layer) in enumerate(zip(weights, (0.1, 0.2, 0.1), (0, 1, 0), strict=True))
    ]
    optimizer = torch.optim.SGD(groups, lr=1)
    merge_param_groups(optimizer)
    found = [(g['lr'], g['layer_id'], [id(p) for p in g['params']]) for g in optimizer.param_groups]
    assert found == [(0.1, 0, [id(weights[0]), id(weights[2])]), (0.2, 1, [id(weights[1])])]
