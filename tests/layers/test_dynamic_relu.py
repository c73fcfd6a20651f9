"""Dynamic ReLU against its equation, position by position in float64."""

import itertools

import pytest
import torch

from finola_mm.layers import DynamicReLU

N, C, H, W, T, D = 2, 6, 3, 4, 5, 8


def scores(act, token):
    """The network on one token (D,), written with products: s (2C,) in [0, 1]."""
    hidden = (act.squeeze.weight @ token + act.squeeze.bias).clamp(min=0)
    return ((act.expand.weight @ hidden + act.expand.bias + 3) / 6).clamp(0, 1)


def oracle(act, x, tokens, mix=None):
    y = torch.empty_like(x)
    for n, c, i, j in itertools.product(range(N), range(C), range(H), range(W)):
        if mix is None:
            s = scores(act, tokens[n, 0])
        else:
            s = sum(mix[n, t, i, j] * scores(act, tokens[n, t]) for t in range(T))
        a1, a2 = 2 * (s[c] - 0.5) + 1, 2 * (s[C + c] - 0.5)
        y[n, c, i, j] = torch.stack([a1 * x[n, c, i, j], a2 * x[n, c, i, j]]).max()
    return y


@pytest.fixture
def parts():
    torch.manual_seed(0)
    act = DynamicReLU(C, D).double()
    for linear in (act.squeeze, act.expand):
        torch.nn.init.normal_(linear.weight, std=2)  # some scores saturate
        torch.nn.init.normal_(linear.bias)
    x = torch.randn(N, C, H, W, dtype=torch.double, requires_grad=True)
    tokens = torch.randn(N, T, D, dtype=torch.double, requires_grad=True)
    mix = torch.randn(N, T, H, W, dtype=torch.double).softmax(1).requires_grad_()
    return act, x, tokens, mix


@pytest.mark.parametrize('spatial', [False, True])
def test_equation_and_gradients(parts, spatial):
    act, x, tokens, mix = parts
    args = (x, tokens, mix) if spatial else (x, tokens)
    inputs = [*args, *act.parameters()]
    g = torch.randn_like(x)
    y, expected = act(*args), oracle(act, *args)
    torch.testing.assert_close(y, expected)
    got = torch.autograd.grad(y, inputs, g)
    torch.testing.assert_close(got, torch.autograd.grad(expected, inputs, g))
    assert all(grad.abs().sum() > 0 for grad in got)


def test_forms_agree_where_every_position_follows_token_0(parts):
    act, x, tokens, mix = parts
    first = torch.zeros_like(mix)
    first[:, 0] = 1
    torch.testing.assert_close(act(x, tokens, first), act(x, tokens))


def test_slopes_are_bounded_and_start_as_relu(parts):
    act, x, tokens, _ = parts
    for linear in (act.squeeze, act.expand):
        torch.nn.init.zeros_(linear.bias)
    torch.nn.init.zeros_(act.expand.weight)
    assert torch.equal(act(x, tokens), x.relu())
    torch.nn.init.constant_(act.expand.bias, 100.0)  # scores 1: a1 = 2, a2 = 1
    torch.testing.assert_close(act(x, tokens), torch.maximum(2 * x, x))
    torch.nn.init.constant_(act.expand.bias, -100.0)  # scores 0: a1 = 0, a2 = -1
    torch.testing.assert_close(act(x, tokens), (-x).relu())


@pytest.mark.parametrize('spatial', [False, True])
def test_bfloat16_stays_bfloat16(parts, spatial):
    act, x, tokens, mix = parts
    x, mix = (a.detach().bfloat16() for a in (x, mix))
    args = (x, tokens.detach().float(), mix if spatial else None)  # tokens stay in float32
    with torch.autocast('cpu', torch.bfloat16):
        y = act.float()(*args)
    assert y.dtype == torch.bfloat16
