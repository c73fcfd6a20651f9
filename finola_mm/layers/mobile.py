"""Mobile: the convolutional half of a block (arXiv 2108.05895, Sec. 3.2 and Fig. 3).

A MobileNet bottleneck with dynamic ReLU. The strided form expands twice: once with the stride, by
the table's factor, and once behind it, by 4; the second expansion is not in the paper's table and
is forced by the published counts.

Legend: N images, C channels, H x W positions, T tokens of width d; mask: True = padding, which is 0
before each filter, as what lies beyond the border of an image alone.
"""

from torch import Tensor, nn

from ..functional import downsample_mask, zero_padding
from .conv_bn import depthwise, pointwise
from .dynamic_relu import DynamicReLU


class Mobile(nn.Module):
    """Stride 1: expand, filter, project; residual where the channels match.

    Args:
        in_channels (int): Channels of the map.
        exp (int): Channels between the two 1x1 convolutions.
        out (int): Channels of the new map.
        token_dim (int): Width d of a token.
    """

    stride = 1

    def __init__(self, in_channels: int, exp: int, out: int, token_dim: int) -> None:
        super().__init__()
        self.expand = pointwise(in_channels, exp)
        self.act1 = DynamicReLU(exp, token_dim)
        self.filter = depthwise(exp, exp)
        self.act2 = DynamicReLU(exp, token_dim)
        self.project = pointwise(exp, out)
        self.residual = in_channels == out

    def forward(
        self, x: Tensor, tokens: Tensor, mix: Tensor | None = None, padding: Tensor | None = None
    ) -> Tensor:
        """(N, in_channels, H, W) and its mask (N, H, W) to (N, out, H, W); ``mix`` as in
        :class:`DynamicReLU`."""
        y = self.act1(self.expand(x), tokens, mix)  # (N, exp, H, W)
        y = self.act2(self.filter(zero_padding(y, padding)), tokens, mix)
        y = self.project(y)  # (N, out, H, W)
        return x + y if self.residual else y


class MobileDown(nn.Module):
    """Stride 2: an expanding strided filter and a projection, then the same at stride 1.

    Args:
        in_channels (int): Channels of the map, a divisor of ``exp``.
        exp (int): Channels after the strided filter.
        out (int): Channels of the new map.
        token_dim (int): Width d of a token.
        expansion (int): Expansion of the second half.
    """

    stride = 2

    def __init__(
        self, in_channels: int, exp: int, out: int, token_dim: int, *, expansion: int = 4
    ) -> None:
        super().__init__()
        self.filter1 = depthwise(in_channels, exp, stride=2)
        self.act1 = DynamicReLU(exp, token_dim)
        self.project1 = pointwise(exp, out)
        self.filter2 = depthwise(out, expansion * out)
        self.act2 = DynamicReLU(expansion * out, token_dim)
        self.project2 = pointwise(expansion * out, out)

    def forward(
        self, x: Tensor, tokens: Tensor, mix: Tensor | None = None, padding: Tensor | None = None
    ) -> Tensor:
        """(N, in_channels, H, W) and its mask (N, H, W) to (N, out, ceil(H/2), ceil(W/2)); ``mix`` at the
        new resolution."""
        x = self.filter1(zero_padding(x, padding))  # (N, exp, H/2, W/2)
        x = self.project1(self.act1(x, tokens, mix))  # (N, out, H/2, W/2)
        y = self.filter2(zero_padding(x, downsample_mask(padding)))  # (N, 4 out, H/2, W/2)
        y = self.project2(self.act2(y, tokens, mix))  # (N, out, H/2, W/2)
        return x + y
