"""The two bridges, Former and the mixture of tokens against plain loops in float64."""

import math

import pytest
import torch

from finola_mm.layers import Former, FormerToMobile, MobileFormerBlock, MobileToFormer
from tests.messages import shows

N, C, H, W, T, D = 2, 6, 3, 5, 4, 8


def linear(layer, v):
    return layer.weight @ v + layer.bias


def layer_norm(norm, v):
    centred = v - v.mean()
    return centred / torch.sqrt((centred**2).mean() + norm.eps) * norm.weight + norm.bias


def attention(q, keys, values, heads):
    """One query (C,) over lists of keys and values (C,), head by head."""
    size = len(q) // heads
    out = []
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        logits = torch.stack([q[part] @ k[part] for k in keys]) / math.sqrt(size)
        weights = logits.exp() / logits.exp().sum()
        out.append(sum(w * v[part] for w, v in zip(weights, values, strict=True)))
    return torch.cat(out)


def positions(x):
    return [x[:, i, j] for i in range(x.shape[1]) for j in range(x.shape[2])]


def to_former_oracle(m, x, tokens):
    rows = []
    for t in tokens:
        gate = 2 * ((linear(m.gate, t) + 3) / 6).clamp(0, 1)
        read = attention(linear(m.query, t), positions(x), positions(x), heads=2) * gate
        rows.append(layer_norm(m.norm, t + linear(m.out, read)))
    return torch.stack(rows)


def former_oracle(m, tokens):
    rows = []
    for t in tokens:
        t = layer_norm(m.norm1, t + linear(m.out, attention(linear(m.query, t), tokens, tokens, 4)))
        hidden = linear(m.ffn[0], t)
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        rows.append(layer_norm(m.norm2, t + linear(m.ffn[2], hidden)))
    return torch.stack(rows)


def to_mobile_oracle(m, x, tokens):
    keys = [linear(m.key, t) for t in tokens]
    values = [linear(m.value, t) for t in tokens]
    read = [attention(p, keys, values, heads=2) for p in positions(x)]
    return x + torch.stack(read, dim=1).reshape(x.shape)


def mixture_oracle(m, x, tokens, stride):
    """Head-averaged logits, averaged over the cells of the coarser map, softmax over tokens."""
    logits = torch.zeros(len(tokens), *x.shape[1:], dtype=x.dtype)
    for t, i, j in torch.cartesian_prod(*map(torch.arange, logits.shape)):
        q, k = linear(m.query, tokens[t]), x[:, i, j]
        heads = [q[: C // 2] @ k[: C // 2], q[C // 2 :] @ k[C // 2 :]]
        logits[t, i, j] = sum(heads) / 2 / math.sqrt(C // 2)
    size = [math.ceil(s / stride) for s in x.shape[1:]]
    pooled = torch.zeros(len(tokens), *size, dtype=x.dtype)
    for i, j in torch.cartesian_prod(*map(torch.arange, size)):
        cell = logits[:, i * stride : (i + 1) * stride, j * stride : (j + 1) * stride]
        pooled[:, i, j] = cell.mean((1, 2))
    return pooled.exp() / pooled.exp().sum(0)


def randomized(module):
    """Weights large enough that softmax, gate and norm all matter."""
    for p in module.parameters():
        torch.nn.init.normal_(p, std=0.7)
    return module.double()


@pytest.fixture
def x():
    return torch.randn(N, C, H, W, dtype=torch.double, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def tokens():
    return torch.randn(N, T, D, dtype=torch.double, generator=torch.Generator().manual_seed(2))


def each(oracle, module, *batch):
    return torch.stack([oracle(module, *item) for item in zip(*batch, strict=True)])


def test_mobile_to_former(x, tokens):
    m = randomized(MobileToFormer(C, D))
    torch.testing.assert_close(m(x, tokens), each(to_former_oracle, m, x, tokens))


def test_former(tokens):
    m = randomized(Former(D))
    torch.testing.assert_close(m(tokens), each(former_oracle, m, tokens))


def test_former_to_mobile(x, tokens):
    m = randomized(FormerToMobile(C, D))
    torch.testing.assert_close(m(x, tokens), each(to_mobile_oracle, m, x, tokens))


@pytest.mark.parametrize('stride', [1, 2])
def test_mixture(x, tokens, stride):
    m = randomized(MobileToFormer(C, D))
    mix = m.mixture(x, tokens, stride=stride)
    expected = torch.stack(
        [mixture_oracle(m, *item, stride) for item in zip(x, tokens, strict=True)]
    )
    torch.testing.assert_close(mix, expected)
    torch.testing.assert_close(mix.sum(1), torch.ones_like(mix[:, 0]))


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('form', ['plain', 'spatial'])
def test_block_is_its_parts_in_order(x, tokens, stride, form):
    """Mobile->Former, Former, Mobile under the new tokens, Former->Mobile."""
    torch.manual_seed(0)
    block = MobileFormerBlock(C, 2 * C, C, D, stride=stride, dynamic_relu=form)
    block = randomized(block).eval()
    new = each(to_former_oracle, block.to_former, x, tokens)
    new = each(former_oracle, block.former, new)
    mix = None
    if form == 'spatial':  # the logits of this block's Mobile->Former: the tokens it was given
        mix = torch.stack(
            [mixture_oracle(block.to_former, *item, stride) for item in zip(x, tokens, strict=True)]
        )
    y = block.mobile(x, new, mix)
    y = each(to_mobile_oracle, block.to_mobile, y, new)
    got_y, got_tokens = block(x, tokens)
    torch.testing.assert_close(got_y, y)
    torch.testing.assert_close(got_tokens, new)


@pytest.mark.parametrize('layer', [MobileToFormer, FormerToMobile])
def test_odd_channels_are_refused(layer):
    with pytest.raises(ValueError, match=shows('channels', 7, 'heads', 2)):
        layer(7, D)


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match=shows('stride', 1, 2, 3)):
        MobileFormerBlock(C, C, C, D, stride=3)
    with pytest.raises(ValueError, match=shows('plain', 'spatial', "'dynamic'")):
        MobileFormerBlock(C, C, C, D, dynamic_relu='dynamic')
    with pytest.raises(ValueError, match=shows('token_dim', 6, 'heads', 4)):
        Former(6)
