"""Norms that keep the dtype of their input, against torch's with the same weights."""

import copy

import pytest
import torch
from torch import nn

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
