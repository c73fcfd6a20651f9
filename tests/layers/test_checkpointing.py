"""Activation checkpointing: nothing is kept, and BatchNorm sees a batch once."""

import pytest
import torch
from torch import nn

from finola_mm.layers import checkpoint_module


def block():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))


def run(call, module):
    """Output, gradients and buffers after one step."""
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    y = call(module, x)
    y.square().sum().backward()
    return [y, x.grad, *(p.grad for p in module.parameters()), *module.buffers()]


def test_equal_to_the_bit():
    plain, again = run(lambda m, x: m(x), block()), run(checkpoint_module, block())
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_sync_batch_norm():
    """It requires a counter of batches in training."""
    plain, again = (nn.SyncBatchNorm.convert_sync_batchnorm(block()) for _ in range(2))
    plain, again = run(lambda m, x: m(x), plain), run(checkpoint_module, again)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_backward_recomputes_and_restores_batch_norm():
    momenta, module = [], block()
    module[0].register_forward_hook(lambda *_: momenta.append(module[1].momentum))
    run(checkpoint_module, module)
    assert momenta == [0.1, 0.0]  # the second time the statistics rest
    assert module[1].momentum == 0.1
    assert module[1].num_batches_tracked == 1


def test_batch_norm_comes_back_after_an_error():
    module = block()
    y = checkpoint_module(module, torch.randn(2, 3, 8, 8, requires_grad=True))
    module[2].forward = None
    with pytest.raises(TypeError):
        y.sum().backward()
    assert module[1].momentum == 0.1
    assert module[1].num_batches_tracked == 1


def test_without_gradients_it_is_a_plain_call():
    module = block().eval()
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(checkpoint_module(module, x), module(x))
