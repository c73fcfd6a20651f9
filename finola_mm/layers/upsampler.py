"""Blocks of FINOLA's convolutional upsampler: "res-conv" and "up-conv" of Table 10.

Paper: "Image is First-order Norm+Linear Autoregressive", Table 10: "we follow the approach of
VQGAN to stack upsampling and convolution blocks". Norm, activation, nearest-neighbour upsampling
and the 1x1 convolution on the shortcut are therefore those of VQGAN's decoder (arXiv 2012.09841).
VQGAN's attention and dropout are not in the table and are omitted.

Legend: N images, C channels, H x W positions.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from .autocast import GroupNorm


def norm_silu_conv(in_channels: int, out_channels: int, *, num_groups: int = 32) -> nn.Sequential:
    """GroupNorm, SiLU, 3x3 convolution: (N, in_channels, H, W) -> (N, out_channels, H, W)."""
    if in_channels % num_groups:
        raise ValueError(
            f'the number of channels must be a multiple of num_groups={num_groups}, got '
            f'{in_channels}'
        )
    return nn.Sequential(
        GroupNorm(num_groups, in_channels, eps=1e-6),
        nn.SiLU(),
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
    )


class ResConv(nn.Module):
    """Residual block of two 3x3 convolutions."""

    def __init__(self, in_channels: int, out_channels: int, *, num_groups: int = 32):
        super().__init__()
        self.conv1 = norm_silu_conv(in_channels, out_channels, num_groups=num_groups)
        self.conv2 = norm_silu_conv(out_channels, out_channels, num_groups=num_groups)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H, W)."""
        return self.shortcut(x) + self.conv2(self.conv1(x))


class UpConv(nn.Conv2d):
    """Nearest-neighbour upsampling by 2, then a 3x3 convolution."""

    def __init__(self, channels: int):
        super().__init__(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, 2H, 2W)."""
        return super().forward(F.interpolate(x, scale_factor=2, mode='nearest'))
