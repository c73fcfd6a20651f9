"""The two convolutions of a bottleneck, each with the BatchNorm behind it.

Legend: N images, C channels, H x W positions.
"""

import torch
from torch import Tensor, nn


def pointwise(in_channels: int, out: int) -> nn.Sequential:
    """1x1 convolution and BatchNorm: (N, in_channels, H, W) to (N, out, H, W)."""
    return nn.Sequential(nn.Conv2d(in_channels, out, 1, bias=False), nn.BatchNorm2d(out))


def depthwise(in_channels: int, out: int, *, stride: int = 1) -> nn.Sequential:
    """3x3 depthwise convolution and BatchNorm; each channel gives out / in_channels channels."""
    return nn.Sequential(DepthwiseConv2d(in_channels, out, stride=stride), nn.BatchNorm2d(out))


class DepthwiseConv2d(nn.Conv2d):
    """3x3 depthwise convolution that may expand: output o is filtered from input o mod in_channels.

    It runs as out / in_channels plain depthwise convolutions, for which oneDNN has a kernel. The same as
    one grouped convolution, whose output o would come from input o // factor, takes up to 7 times
    as long on a CPU, forward and backward.
    """

    def __init__(self, in_channels: int, out: int, *, stride: int = 1) -> None:
        if out % in_channels:
            raise ValueError(f'out must be a multiple of in_channels={in_channels}, got {out}')
        super().__init__(in_channels, out, 3, stride, padding=1, groups=in_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out, ceil(H/stride), ceil(W/stride))."""
        if self.stride == (1, 1) or x.dtype != torch.bfloat16 or x.device.type != 'cpu':
            return self._filter(x, self.weight, self.bias)
        # The gradient of a strided filter takes a CPU 9 times as long in bfloat16 as in float32.
        with torch.autocast('cpu', enabled=False):
            bias = None if self.bias is None else self.bias.float()
            return self._filter(x.float(), self.weight.float(), bias).to(x.dtype)

    def _filter(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.out_channels == self.in_channels:  # cat would copy even a single map
            return self._conv_forward(x, weight, bias)
        weights = weight.split(self.in_channels)
        # There is a bias once mmcv's fuse_conv_bn has put a BatchNorm into the weights.
        biases = [None] * len(weights) if bias is None else bias.split(self.in_channels)
        pairs = zip(weights, biases, strict=True)
        return torch.cat([self._conv_forward(x, w, b) for w, b in pairs], dim=1)
