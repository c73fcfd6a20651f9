"""Depthwise convolutions and bottlenecks against loops in float64."""

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn import fuse_conv_bn

from finola_mm.layers import BneckLite, Mobile, MobileDown, depthwise, pointwise
from finola_mm.layers.mobile import DepthwiseConv2d
from tests.messages import shows


def depthwise_oracle(x, weight, stride):
    """Output o filters input o mod in_channels, tap by tap."""
    padded = F.pad(x, (1, 1, 1, 1))
    rows, cols = range(0, x.shape[2], stride), range(0, x.shape[3], stride)
    y = torch.empty(len(x), len(weight), len(rows), len(cols), dtype=x.dtype)
    for o, kernel in enumerate(weight):
        channel = padded[:, o % x.shape[1]]
        for i, row in enumerate(rows):
            for j, col in enumerate(cols):
                y[:, o, i, j] = (channel[:, row : row + 3, col : col + 3] * kernel[0]).sum((1, 2))
    return y


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('factor', [1, 3])
def test_depthwise(stride, factor):
    torch.manual_seed(0)
    conv = DepthwiseConv2d(4, 4 * factor, stride=stride).double()
    x = torch.randn(2, 4, 5, 6, dtype=torch.double)
    torch.testing.assert_close(conv(x), depthwise_oracle(x, conv.weight, stride))


def test_fractional_expansion_is_refused():
    with pytest.raises(ValueError, match=shows('in_channels', 4, 'out', 6)):
        DepthwiseConv2d(4, 6)


def test_bneck_lite():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 5, 5, dtype=torch.double)
    for out in (4, 6):
        block = BneckLite(4, 8, out).double().eval()
        y = depthwise_oracle(x, block.filter[0].weight, 1) / (1 + 1e-5) ** 0.5
        y = torch.einsum('oc,nchw->nohw', block.project[0].weight[..., 0, 0], y.clamp(0, 6))
        y = y / (1 + 1e-5) ** 0.5
        torch.testing.assert_close(block(x), x + y if out == 4 else y)


def test_residuals_of_mobile():
    """With zero projections only the residual is left: x, nothing, the middle of the block."""
    x, tokens = torch.randn(1, 4, 6, 6), torch.randn(1, 6, 8)
    same, wider, down = Mobile(4, 8, 4, 8), Mobile(4, 8, 6, 8), MobileDown(4, 8, 6, 8)
    for projection in (same.project, wider.project, down.project2):
        torch.nn.init.zeros_(projection[1].weight)
    assert torch.equal(same(x, tokens), x)
    assert torch.equal(wider(x, tokens), torch.zeros(1, 6, 6, 6))
    middle = down.project1(down.act1(down.filter1(x), tokens))
    torch.testing.assert_close(down.train()(x, tokens), middle)
    assert middle.shape == (1, 6, 3, 3)


def test_mmcv_can_fuse_batch_norm():
    """mmdet's --fuse-conv-bn puts BatchNorm into the convolution's weights and gives it a bias."""
    torch.manual_seed(0)
    x = torch.randn(2, 4, 7, 6, dtype=torch.double)
    for layer in (pointwise(4, 6), depthwise(4, 4), depthwise(4, 8), depthwise(4, 12, stride=2)):
        norm = layer[1]
        for values in (norm.weight, norm.bias, norm.running_mean):
            torch.nn.init.normal_(values)
        torch.nn.init.uniform_(norm.running_var, 0.1, 2)
        expected = layer.double().eval()(x)
        fused = fuse_conv_bn(layer)
        torch.testing.assert_close(fused(x), expected)
        assert isinstance(fused[1], torch.nn.Identity)
        low = fused.bfloat16()(x.bfloat16())
        assert low.dtype == torch.bfloat16
        torch.testing.assert_close(low.double(), expected, rtol=0.02, atol=0.05)
