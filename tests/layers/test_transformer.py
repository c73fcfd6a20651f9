"""The transformer block against torch's own pre-norm encoder layer with the same weights."""

import pytest
import torch
from torch import nn

from finola_mm.layers import TransformerBlock
from tests.messages import shows


def test_equals_torch_encoder_layer():
    torch.manual_seed(0)
    block = TransformerBlock(32, 4).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    oracle = nn.TransformerEncoderLayer(
        32,
        4,
        dim_feedforward=128,
        dropout=0.0,
        activation='gelu',
        batch_first=True,
        norm_first=True,
        dtype=torch.float64,
    )
    names = {
        'norm1': 'norm1',
        'norm2': 'norm2',
        'proj': 'self_attn.out_proj',
        'mlp.0': 'linear1',
        'mlp.2': 'linear2',
    }
    state = {
        f'{theirs}.{kind}': block.get_parameter(f'{ours}.{kind}')
        for ours, theirs in names.items()
        for kind in ('weight', 'bias')
    }
    state.update(
        {
            f'self_attn.in_proj_{kind}': block.get_parameter(f'qkv.{kind}')
            for kind in ('weight', 'bias')
        }
    )
    oracle.load_state_dict(state)
    x = torch.randn(2, 7, 32, dtype=torch.float64)
    torch.testing.assert_close(block(x), oracle(x), rtol=0, atol=1e-10)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match=shows(30, 4)):
        TransformerBlock(30, 4)
