"""Lite bottleneck, "bneck-lite" in the tables: a block without tokens (MicroNet, arXiv 2108.05894).

Legend: N images, C channels, H x W positions; mask: True = padding.
"""

from torch import Tensor, nn

from ..functional import zero_padding
from .conv_bn import depthwise, pointwise


class BneckLite(nn.Module):
    """Expanding 3x3 depthwise convolution, ReLU6, 1x1 projection; residual where channels match.

    Args:
        in_channels (int): Channels of the map, a divisor of ``exp``.
        exp (int): Channels after the depthwise convolution.
        out (int): Channels of the new map.
    """

    def __init__(self, in_channels: int, exp: int, out: int) -> None:
        super().__init__()
        self.filter = depthwise(in_channels, exp)
        self.act = nn.ReLU6()
        self.project = pointwise(exp, out)
        self.residual = in_channels == out

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """(N, in_channels, H, W), whose ``padding`` (N, H, W) is not read, to (N, out, H, W)."""
        y = self.filter(zero_padding(x, padding))  # (N, exp, H, W)
        y = self.project(self.act(y))  # (N, out, H, W)
        return x + y if self.residual else y
