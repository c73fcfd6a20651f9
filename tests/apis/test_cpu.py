"""Models optimized for a CPU against unoptimized models, in training and in inference."""

import copy

import pytest
import torch
from torch import nn

from finola_mm.apis import cpu, optimize_for_cpu
from finola_mm.functional.compat import COMPILES
from finola_mm.layers import DynamicReLU, depthwise
from tests.backbones.small_encoder import FORMS, build, images, settled

N, C, H, W, T, D = 2, 6, 3, 4, 5, 8


def pair(module):
    """Return the module and an optimized copy with the same weights."""
    return module, optimize_for_cpu(copy.deepcopy(module))


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('spatial', [False, True])
def test_dynamic_relu_overwrites_its_input_in_inference(spatial, memory_format, monkeypatch):
    """Slices need not divide the map; with gradients the input is unchanged."""
    monkeypatch.setattr(cpu, 'SLICE', N * C * 2 * W)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 1)  # two of the three rows at a time
    torch.manual_seed(0)
    plain, fast = pair(DynamicReLU(C, D))
    x = torch.randn(N, C, H, W).contiguous(memory_format=memory_format)
    args = [torch.randn(N, T, D), *([torch.rand(N, T, H, W)] if spatial else [])]
    expected, before = plain(x, *args), x.clone()
    assert torch.equal(fast(x, *args), expected) and torch.equal(x, before)
    with torch.no_grad():
        got = fast(x, *args)
    assert got is x and torch.equal(got, expected)


def test_strided_depthwise_convolution_in_bfloat16():
    """Only input, output and their gradients are rounded to bfloat16."""
    torch.manual_seed(0)
    plain, fast = (layer[0] for layer in pair(depthwise(4, 8, stride=2)))
    x = torch.randn(2, 4, 7, 6).bfloat16().requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        y = fast(x)
    wide = x.detach().float().requires_grad_()
    expected = plain(wide)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, expected.bfloat16())
    grads = torch.autograd.grad(y.float().sum(), [x, fast.weight])
    expected_grads = torch.autograd.grad(expected.sum(), [wide, plain.weight])
    assert torch.equal(grads[0], expected_grads[0].bfloat16())
    assert torch.equal(grads[1], expected_grads[1])


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('context', [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize('padded', [False, True])
def test_encoder(form, context, padded):
    """Maps and tokens are equal; the images are unchanged; the maps are channels last."""
    x = images(2, 3, 47, 64, dtype=torch.double)
    plain, fast = pair(settled(build(dynamic_relu=form).double(), x))
    padding_mask = torch.zeros(2, 47, 64, dtype=torch.bool)
    padding_mask[1, 30:] = padding_mask[1, :, 40:] = True
    args = (x, padding_mask) if padded else (x,)
    before, (maps, tokens) = x.clone(), plain(*args)
    with context():
        got, read = fast(*args)
        empty, _ = fast(x[:0])
    torch.testing.assert_close([*got, read], [*maps, tokens])
    assert torch.equal(x, before)
    assert all(m.is_contiguous(memory_format=torch.channels_last) for m in got)
    assert [m.shape[1:] for m in empty] == [m.shape[1:] for m in maps]


def test_training_is_unchanged():
    """Gradients and weights are bit-identical to those of the unoptimized model."""
    x = images(2, 3, 32, 32)
    results = []
    for model in pair(build().train()):
        maps, tokens = model(x)
        (sum(m.sum() for m in maps) + tokens.sum()).backward()
        results.append([*(p.grad for p in model.parameters()), *model.state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_state_dict_keys_are_unchanged():
    plain, fast = pair(build())
    assert list(plain.state_dict()) == list(fast.state_dict())
    fast.load_state_dict(plain.state_dict())


class Calls(nn.Module):
    """A module with one dynamic ReLU."""

    def __init__(self):
        super().__init__()
        self.act = DynamicReLU(C, D)

    def forward(self, x, tokens):
        return self.act(x, tokens)


@pytest.mark.skipif(not COMPILES, reason='the compiler of older torch was not tried')
@torch.no_grad()
def test_a_traced_graph_holds_the_plain_operators():
    module, args = optimize_for_cpu(Calls()), (torch.randn(N, C, H, W), torch.randn(N, T, D))
    before = args[0].clone()
    exported = torch.export.export(module, args).module()
    torch.testing.assert_close(exported(*args), Calls.forward(module, before.clone(), args[1]))
    assert torch.equal(args[0], before)
