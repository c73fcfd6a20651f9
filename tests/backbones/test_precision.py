"""Mobile-Former in other precisions, memory formats and batches: the same numbers."""

import copy

import pytest
import torch
from torch import nn

from tests.backbones.small_encoder import FORMS, build, images, settled


def rounded(model):
    """A copy that stores in bfloat16 what autocast does, and computes in float32."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            for p in module.parameters():
                p.data = p.data.bfloat16().float()
        if not list(module.children()) and not isinstance(module, nn.LayerNorm):
            module.register_forward_hook(lambda module, args, out: out.bfloat16().float())
    return model


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('train', [True, False])
def test_bfloat16_autocast(form, train):
    """Autocast may cost what storing in bfloat16 costs, not more.

    The measure is the same network computed in float32 with weights and every layer's output
    rounded to bfloat16. Twice its error allows for the roundings inside attention and dynamic ReLU;
    softmax or statistics accumulated in bfloat16 would cost more.
    """
    x = images(16, 3, 64, 64)
    model = settled(build(dynamic_relu=form), x).train(train)
    with torch.no_grad():
        expected = model(x)
        reference = rounded(model)(x)
        with torch.autocast('cpu', torch.bfloat16):
            got = model(x)
    assert all(m.dtype == torch.bfloat16 for m in got[0])
    for y, r, e in zip(
        [*got[0], got[1]], [*reference[0], reference[1]], [*expected[0], expected[1]], strict=True
    ):
        assert (y.float() - e).norm() < 2 * (r - e).norm()


def watch(model, memory_format):
    """Names of the layers whose output, (N, C, H, W), is not laid out in ``memory_format``."""
    strays = []

    def check(name):
        def hook(module, args, out):
            for t in out if isinstance(out, tuple) else (out,):
                if t.dim() == 4 and not t.is_contiguous(memory_format=memory_format):
                    strays.append(name)

        return hook

    for name, module in model.named_modules():
        if module is not model:
            module.register_forward_hook(check(name))
    return strays


@pytest.mark.parametrize('amp', [False, True])
@pytest.mark.parametrize('form', FORMS)
def test_channels_last_stays(form, amp):
    model = build(dynamic_relu=form).to(memory_format=torch.channels_last)
    strays = watch(model, torch.channels_last)
    x = images(2, 3, 64, 80).contiguous(memory_format=torch.channels_last)
    with torch.autocast('cpu', torch.bfloat16, enabled=amp):
        maps, _ = model(x)
    assert strays == []
    assert all(m.is_contiguous(memory_format=torch.channels_last) for m in maps)


@pytest.mark.parametrize('form', FORMS)
def test_channels_last_equals_contiguous(form):
    x = images(2, 3, 47, 64, dtype=torch.double)
    model = build(dynamic_relu=form).double()
    grads = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        maps, tokens = model.to(memory_format=memory_format)(
            x.contiguous(memory_format=memory_format)
        )
        loss = sum(m.sin().sum() for m in maps) + tokens.sin().sum()
        grads.append([*maps, tokens, *torch.autograd.grad(loss, list(model.parameters()))])
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize('form', FORMS)
def test_batched_equals_single(form):
    x = images(3, 3, 40, 64, dtype=torch.double)
    model = settled(build(dynamic_relu=form).double(), x)
    maps, tokens = model(x)
    for i in range(3):
        single, token = model(x[i : i + 1])
        expected = [t[i : i + 1] for t in (*maps, tokens)]
        torch.testing.assert_close([*single, token], expected)
