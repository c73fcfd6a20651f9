"""The forms of the layers for export against the layers."""

import pytest
import torch
from torch import nn

from finola_mm.apis.export_layers import Normalize, fuse_norms, simplify_for_export
from finola_mm.backbones import MobileFormer
from finola_mm.layers import DynamicReLU, FormerToMobile, MobileFormerDecoder, MobileToFormer
from finola_mm.layers.mobile import depthwise
from finola_mm.registry import MODELS


def randomize(model):
    """Random weights, norms and statistics, in float64."""
    model = model.double().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) - 0.4)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.abs_().add_(0.5)
    return model


def compare(model, *inputs):
    model = randomize(model)
    expected = model(*inputs)
    torch.testing.assert_close(simplify_for_export(model)(*inputs), expected)


@pytest.mark.parametrize('layer', [MobileToFormer, FormerToMobile])
def test_bridges(layer):
    compare(layer(12, 8, heads=3), torch.randn(2, 12, 3, 5).double(), torch.randn(2, 6, 8).double())


@pytest.mark.parametrize('spatial', [False, True])
def test_dynamic_relu(spatial):
    mix = torch.rand(2, 6, 3, 5).double() if spatial else None
    compare(DynamicReLU(4, 8), torch.randn(2, 4, 3, 5).double(), torch.randn(2, 6, 8).double(), mix)


@pytest.mark.parametrize('form', ['plain', 'spatial'])
def test_encoder(form):
    model = MobileFormer('small', out_indices=(2, 4), dynamic_relu=form)
    x = torch.randn(2, 3, 50, 66).double()
    model.double().eval().requires_grad_(False)
    expected = model(x)
    torch.testing.assert_close(simplify_for_export(model)(x), expected)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize('fixed_size', [False, True])
def test_decoder(fixed_size):
    """The last queries only; at a fixed size, positions of another size do not fit."""
    model = MobileFormerDecoder('211', (8, 12), num_queries=5, dim=16, heads=2, hidden=32)
    model.double().eval().requires_grad_(False)
    feats = torch.randn(2, 8, 9, 7).double(), torch.randn(2, 12, 5, 4).double()
    expected = model(feats)[-1:]
    simplify_for_export(model, fixed_size=fixed_size)
    for _ in range(2):
        torch.testing.assert_close(model(feats), expected)
    other = torch.randn(2, 8, 6, 6).double(), torch.randn(2, 12, 3, 3).double()
    if fixed_size:
        with pytest.raises(RuntimeError):
            model(other)
    else:
        model(other)


def test_fused_norms_need_a_plain_convolution():
    """A subclass may change its weights in ``forward``, as timm's standardized convolutions do."""

    class Standardized(nn.Conv2d):
        def forward(self, x):
            return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)

    norm = nn.BatchNorm2d(4)
    model = nn.Sequential(Standardized(4, 4, 1), norm)
    fuse_norms(model.eval())
    assert model[1] is norm
    model = randomize(depthwise(4, 12))
    x = torch.randn(2, 4, 5, 5).double()
    expected = model(x)
    fuse_norms(model)
    torch.testing.assert_close(model(x), expected)
    assert isinstance(model[1], nn.Identity)


@pytest.mark.parametrize(
    'preprocessor',
    [
        dict(type='mmpretrain.ClsDataPreprocessor', to_rgb=True),
        dict(type='mmpretrain.ClsDataPreprocessor'),
        dict(type='finola_mm.SelfSupDataPreprocessor', to_rgb=True),
        dict(type='mmpretrain.SelfSupDataPreprocessor', to_rgb=True),
        dict(type='finola_mm.SelfSupDataPreprocessor'),
    ],
)
def test_normalization_of_rgb_images(preprocessor):
    """Images are loaded as BGR; a graph takes RGB, whatever the model's order."""
    preprocessor = MODELS.build(dict(preprocessor, mean=[1.0, 20, 30], std=[40.0, 50, 60]))
    bgr = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    expected = preprocessor(dict(inputs=bgr, data_samples=None))['inputs']
    torch.testing.assert_close(Normalize(preprocessor)(bgr.flip(1)), expected)
