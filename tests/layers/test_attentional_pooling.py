"""Attentional pooling against torch's own multi-head attention."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from finola_mm.layers import AttentionalPooling
from tests.messages import shows


@pytest.fixture
def pooling():
    torch.manual_seed(0)
    return AttentionalPooling(24, 24, num_queries=3, num_heads=4).double()


def as_torch(pooling):
    """torch's layer with the same weights; its projection of the queries is the identity."""
    width = len(pooling.key)
    attention = nn.MultiheadAttention(width, pooling.num_heads, batch_first=True).double()
    with torch.no_grad():
        weights = (torch.eye(width, dtype=torch.float64), pooling.key, pooling.value)
        attention.in_proj_weight.copy_(torch.cat(weights))
        attention.in_proj_bias.zero_()
        attention.out_proj.load_state_dict(pooling.out.state_dict())
    return attention


def test_it_is_multi_head_attention(pooling):
    x = torch.randn(2, 24, 3, 5, dtype=torch.float64)
    nn.init.normal_(pooling.out.bias)
    positions = x.flatten(2).mT
    queries = pooling.queries.expand(2, -1, -1)
    expected, _ = as_torch(pooling)(queries, positions, positions)
    torch.testing.assert_close(pooling(x), expected, rtol=0, atol=1e-12)


def test_a_bias_on_keys_or_values_could_not_act_alone(pooling):
    """Why there is none: one changes nothing, the other adds the same vector everywhere."""
    x = torch.randn(2, 24, 3, 5, dtype=torch.float64)
    positions, queries = x.flatten(2).mT, pooling.queries.expand(2, -1, -1)
    attention = as_torch(pooling)
    with torch.no_grad():
        attention.in_proj_bias[24:].normal_()
    out, _ = attention(queries, positions, positions)
    shift = attention.in_proj_bias[48:] @ attention.out_proj.weight.T
    torch.testing.assert_close(pooling(x) + shift, out, rtol=0, atol=1e-12)


def test_positions_and_memory_format_do_not_matter(pooling):
    x = torch.randn(2, 24, 4, 4, dtype=torch.float64)
    shuffled = x.flatten(2)[:, :, torch.randperm(16)].view_as(x)
    for same in (shuffled, x.contiguous(memory_format=torch.channels_last)):
        torch.testing.assert_close(pooling(same), pooling(x), rtol=0, atol=1e-12)


def test_output_width_and_gradients():
    pooling = AttentionalPooling(16, 40, num_queries=2)
    out = pooling(torch.randn(3, 16, 4, 4))
    assert out.shape == (3, 2, 40)
    (out * torch.randn_like(out)).sum().backward()
    assert all(p.grad.any() for p in pooling.parameters())


def test_parameters_and_multiply_adds():
    """At the default's widths: 3 matrices; and no product of the whole map with one of them."""
    with torch.device('meta'):
        pooling = AttentionalPooling(2880, 3072)
        assert sum(p.numel() for p in pooling.parameters()) == (
            2880 + 2 * 2880**2 + (2880 + 1) * 3072
        )
        with FlopCounterMode(display=False) as counter:
            pooling(torch.empty(1, 2880, 16, 16))
    madds = 2 * 2880**2 + 2 * 8 * 256 * 2880 + 2880 * 3072
    assert counter.get_total_flops() == 2 * madds


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match=shows('in_channels', 20, 'num_heads', 8)):
        AttentionalPooling(20, 20)
