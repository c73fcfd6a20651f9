"""Memory layout, DDP's options, and optimizer states of another layout."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapperDict, build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.runner import Runner as MMEngineRunner
from torch import nn

from finola_mm.engine import Runner
from finola_mm.engine.runner import match_layout
from finola_mm.errors import UserError


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(force=True)
class SeveralOptimizers:
    def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
        self.cfg = optim_wrapper_cfg

    def __call__(self, model):
        wrappers = {n: build_optim_wrapper(model[n], cfg) for n, cfg in self.cfg.items()}
        return OptimWrapperDict(**wrappers)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 5, 1)
    )


@pytest.fixture
def wrap(monkeypatch):
    """Return (options of DDP, model) that MMEngine gets on a device, which is a stand-in."""
    monkeypatch.setattr(MMEngineRunner, 'wrap_model', lambda self, *args: args)

    def call(device, model, ranks=2, **cfg):
        monkeypatch.setattr('finola_mm.engine.runner.get_device', lambda: device)
        runner = Runner.__new__(Runner)
        runner.cfg, runner._distributed = Config(cfg), ranks > 1
        return runner.wrap_model(cfg.get('model_wrapper_cfg'), model)

    return call


def test_options_of_ddp(wrap):
    options = wrap('cuda', network(), find_unused_parameters=True)[0]
    assert options == dict(
        broadcast_buffers=False, find_unused_parameters=True, gradient_as_bucket_view=True
    )
    options = wrap('cpu', network())[0]
    assert options['device_ids'] is None and options['find_unused_parameters'] is False
    own = dict(type='Own')
    assert wrap('cuda', network(), model_wrapper_cfg=own)[0] == own
    assert wrap('cpu', network(), model_wrapper_cfg=own)[0] == {**own, 'device_ids': None}
    assert wrap('cpu', network(), ranks=1)[0] is None


def test_channels_last_on_a_gpu(wrap):
    x = torch.randn(2, 3, 6, 6)
    expected = network()(x)
    model = wrap('cuda', network())[1]
    y = model(x)
    torch.testing.assert_close(y, expected)
    assert all(w.stride(1) == 1 for w in model.parameters() if w.ndim == 4)
    assert y.is_contiguous(memory_format=torch.channels_last)
    for unchanged in (wrap('cpu', network()), wrap('cuda', network(), channels_last=False)):
        assert all(w.is_contiguous() for w in unchanged[1].parameters())


@pytest.mark.parametrize('saved', (torch.contiguous_format, torch.channels_last))
def test_resume_in_another_layout(saved):
    """The state takes the layout of the weights, and training continues as without a resume."""
    formats = [torch.contiguous_format, torch.channels_last]
    resumed = formats[saved is formats[0]]
    x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))

    def run(memory_format, state=None):
        model = network().to(memory_format=memory_format)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        optimizer.register_load_state_dict_post_hook(match_layout)
        if state is not None:
            model.load_state_dict(state[0])
            optimizer.load_state_dict(copy.deepcopy(state[1]))
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
        return model, optimizer

    model, optimizer = run(saved)
    state = model.state_dict(), optimizer.state_dict()
    expected, (found, optimizer) = run(saved, state)[0], run(resumed, state)
    for a, b in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b)
        assert {optimizer.state[a][k].stride() for k in ('exp_avg', 'exp_avg_sq')} == {a.stride()}


def test_several_optimizers():
    runner = Runner.__new__(Runner)
    runner.model = nn.ModuleDict(dict(a=nn.Linear(1, 1), b=nn.Linear(1, 1)))
    wrappers = {
        name: dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)) for name in ('a', 'b')
    }
    with pytest.raises(UserError, match='optim_wrapper'):
        runner.build_optim_wrapper(dict(constructor='SeveralOptimizers', **wrappers))
