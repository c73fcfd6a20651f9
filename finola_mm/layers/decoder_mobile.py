"""The convolutions of a detection decoder, for which padding does not exist.

Before a convolution the padded positions are set to 0, which is what it sees beyond the border of
an image alone, and in training BatchNorm takes its statistics from the other positions. So to
rounding an image gives the same whatever it shares a batch with, in training but for those
statistics.

Legend: N images, C channels, D width, H x W positions of the batch; mask: True = padding.
"""

import torch
from torch import Tensor, nn

from ..functional import upsample_2x, zero_padding
from .bneck_lite import BneckLite
from .conv_bn import DepthwiseConv2d, depthwise, pointwise


def masked_conv_bn(layer: nn.Sequential, x: Tensor, padding: Tensor | None) -> Tensor:
    """A convolution and its BatchNorm; x is 0 at ``padding``, a mask of the result (N, H, W)."""
    conv, norm = layer
    x = conv(x)  # (N, C, H, W)
    if padding is None or not norm.training:
        return norm(x)
    valid = ~padding
    rows = x.permute(0, 2, 3, 1)[valid]  # (positions, C)
    rows = norm(rows[:, :, None, None]).flatten(1)  # any BatchNorm, SyncBatchNorm too
    y = torch.zeros_like(x, dtype=rows.dtype).permute(0, 2, 3, 1)
    y[valid] = rows
    return y.permute(0, 3, 1, 2)


class MaskedBottleneck(BneckLite):
    """The convolutional half of M-F-: the encoder's bneck-lite with its residual, given padding."""

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """(N, D, H, W), 0 at ``padding`` (N, H, W), to (N, D, H, W)."""
        y = self.act(masked_conv_bn(self.filter, x, padding))  # (N, 4 D, H, W)
        return x + masked_conv_bn(self.project, y, padding)


class Downsample(nn.Module):
    """The step to stride 32: a strided depthwise filter of the encoder's last map, projected."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.filter = depthwise(channels, channels, stride=2)
        self.project = pointwise(channels, dim)

    def forward(self, feat: Tensor, padding: Tensor | None) -> Tensor:
        """(N, C, H, W), 0 where padded, to (N, D, ceil(H/2), ceil(W/2)); the new map's mask."""
        return masked_conv_bn(self.project, masked_conv_bn(self.filter, feat, padding), padding)


class UpsampleLateral(nn.Module):
    """A step to a finer map: upsampled and filtered, plus the encoder's map of that stride."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.up = nn.Sequential(DepthwiseConv2d(dim, dim), nn.Conv2d(dim, dim, 1))
        self.lateral = nn.Conv2d(channels, dim, 1)

    def forward(
        self, x: Tensor, feat: Tensor, padding: Tensor | None, finer: Tensor | None
    ) -> Tensor:
        """x (N, D, h, w) and feat (N, C, H, W) to (N, D, H, W); masks at h x w and at H x W."""
        x = zero_padding(upsample_2x(x, feat.shape[2:], padding), finer)
        return self.up(x) + self.lateral(feat)
