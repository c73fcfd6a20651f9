"""Norms that keep the dtype of their input, and modules computed in autocast's dtype.

The oracles are torch's norms, and copies of the modules whose weights have that dtype.
"""

import copy

import pytest
import torch
from torch import nn

from finola_mm.functional.compat import is_autocast_enabled
from finola_mm.layers import call_in_autocast_dtype
from finola_mm.layers.autocast import GroupNorm, LayerNorm

CASES = [
    (LayerNorm, nn.LayerNorm, (8,), (2, 5, 8)),
    (GroupNorm, nn.GroupNorm, (2, 8), (2, 8, 3, 4)),
]


@pytest.mark.parametrize('ours, theirs, args, shape', CASES, ids=('LayerNorm', 'GroupNorm'))
def test_equals_torch(ours, theirs, args, shape):
    torch.manual_seed(0)
    norm, oracle = ours(*args).double(), theirs(*args).double()
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    oracle.load_state_dict(norm.state_dict())
    x = torch.randn(shape, dtype=torch.double).bfloat16().double()
    assert torch.equal(norm(x), oracle(x))
    low = x.bfloat16().requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        y = copy.deepcopy(norm).float()(low)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.double(), oracle(x), rtol=2**-6, atol=2**-6)


class Layers(nn.Module):
    """All kinds of parameters: of layers, of the module itself, and of BatchNorm."""

    def __init__(self):
        super().__init__()
        self.offset = nn.Parameter(torch.randn(6))
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))
        self.rest = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 5))

    def forward(self, images, mask):
        x = self.stem(images[0]).flatten(2).transpose(1, 2)  # (N, 9, 6)
        return self.rest(torch.where(mask, x + self.offset, 0))


@pytest.fixture
def layers():
    torch.manual_seed(0)
    return Layers()


def inputs():
    torch.manual_seed(1)
    return [torch.randn(2, 3, 5, 5)], torch.rand(2, 9, 1) > 0.5


def gradients(layers):
    return {name: p.grad for name, p in layers.named_parameters()}


def test_it_equals_a_module_in_the_dtype(layers):
    """Outputs, gradients and statistics, to the bit."""
    (images,), mask = inputs()
    other = copy.deepcopy(layers).bfloat16()
    other.stem[1].float()
    with torch.autocast('cpu', torch.bfloat16):
        y = call_in_autocast_dtype(layers, [images], mask)
        assert is_autocast_enabled('cpu')
    expected = other([images.bfloat16()], mask)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, expected)
    for output in (y, expected):
        output.float().square().sum().backward()
    for name, gradient in gradients(other).items():
        assert torch.equal(gradients(layers)[name], gradient.float()), name
    assert torch.equal(layers.stem[1].running_var, other.stem[1].running_var)


def test_frozen_weights_keep_no_activations(layers):
    layers.stem.requires_grad_(False)
    layers.offset.requires_grad_(False)
    seen = []
    layers.stem.register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.autocast('cpu', torch.bfloat16):
        call_in_autocast_dtype(layers, *inputs()).sum().backward()
    assert seen[0].grad_fn is None
    found = {name for name, gradient in gradients(layers).items() if gradient is not None}
    assert found == {f'rest.{name}' for name, _ in layers.rest.named_parameters()}


def test_without_autocast_it_is_a_plain_call(layers):
    expected = copy.deepcopy(layers)(*inputs())
    assert torch.equal(call_in_autocast_dtype(layers, *inputs()), expected)
