"""The two blocks of FINOLA's upsampler: "res-conv" and "up-conv" of Table 10.

Paper: "Image is First-order Norm+Linear Autoregressive", Table 10, "we follow the approach of
VQGAN to stack upsampling and convolution blocks". So norm, activation, nearest-neighbour upsampling
and the 1x1 convolution on the shortcut are VQGAN's (arXiv 2012.09841, its decoder); its attention
and dropout are not in the table.
"""

import torch.nn.functional as F
from torch import Tensor, nn


def norm_silu_conv(in_channels: int, out: int, *, num_groups: int = 32) -> nn.Sequential:
    """GroupNorm, SiLU, 3x3 convolution: (N, in_channels, H, W) to (N, out, H, W)."""
    if in_channels % num_groups:
        raise ValueError(
            f'{in_channels} channels do not divide into {num_groups} groups; set num_groups'
        )
    return nn.Sequential(
        nn.GroupNorm(num_groups, in_channels, eps=1e-6),
        nn.SiLU(),
        nn.Conv2d(in_channels, out, 3, padding=1),
    )


class ResConv(nn.Module):
    """Residual block of two 3x3 convolutions, (N, in_channels, H, W) to (N, out, H, W)."""

    def __init__(self, in_channels: int, out: int, *, num_groups: int = 32):
        super().__init__()
        self.conv1 = norm_silu_conv(in_channels, out, num_groups=num_groups)
        self.conv2 = norm_silu_conv(out, out, num_groups=num_groups)
        self.shortcut = nn.Conv2d(in_channels, out, 1) if in_channels != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.conv2(self.conv1(x))


class UpConv(nn.Conv2d):
    """Each position becomes 2 x 2, then a 3x3 convolution: (N, C, H, W) to (N, C, 2H, 2W)."""

    def __init__(self, channels: int):
        super().__init__(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.interpolate(x, scale_factor=2, mode='nearest'))
