"""Mobile: the convolutional half of a Mobile-Former block, and its parts.

Source: Mobile-Former (arXiv 2108.05895), Sec. 3.2 and Fig. 3; "bneck-lite" is from MicroNet
(arXiv 2108.05894), dynamic ReLU from arXiv 2003.10027 with the average pooling replaced by a
token. The stride-2 block expands twice: by the table's factor in the strided convolution, and by 4
after it. The second expansion is not in the paper's table; it is implied by the published sizes.

Dynamic ReLU has two forms that share every weight:

* plain (default): one pair of slopes per image and channel, computed from the first token;
* spatial-aware: each token yields a pair of slopes, and each position uses a weighted average of
  the six pairs.

The smallest Mobile-Former has 1x1 convolutions in groups, with the channels shuffled between them.
Expanding filters need no shuffle: their outputs are in the shuffled order (``DepthwiseConv2d``).

Legend: N images, C channels, H x W positions, T tokens of width d; mask: True = padding, which is
set to 0 before each filter, as in a convolution's zero padding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..functional import downsample_mask, zero_padding
from .autocast import without_autocast


def pointwise(
    in_channels: int, out_channels: int, *, groups: int = 1, shuffle: bool = False
) -> nn.Sequential:
    """1x1 convolution and BatchNorm: (N, in_channels, H, W) -> (N, out_channels, H, W).

    ``shuffle`` interleaves the channels of the groups.
    """
    conv = nn.Conv2d(in_channels, out_channels, 1, groups=groups, bias=False)
    shuffles = [ChannelShuffle(groups)] if shuffle else []
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), *shuffles)


class ChannelShuffle(nn.ChannelShuffle):
    """``nn.ChannelShuffle`` with a derivative, which that of torch 2.1 lacks."""

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)


def depthwise(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Sequential:
    """3x3 depthwise convolution and BatchNorm, expanding if out_channels > in_channels."""
    conv = DepthwiseConv2d(in_channels, out_channels, stride=stride)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


class DepthwiseConv2d(nn.Conv2d):
    """3x3 depthwise convolution that may expand: output o reads input o mod in_channels.

    It runs as out_channels / in_channels plain depthwise convolutions, for which oneDNN has a
    kernel. One grouped convolution, whose output o would read input o // factor, takes up to 7
    times as long on a CPU, forward and backward.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        if out_channels % in_channels:
            raise ValueError(
                f'out_channels must be a multiple of in_channels={in_channels}, got {out_channels}'
            )
        super().__init__(
            in_channels, out_channels, 3, stride, padding=1, groups=in_channels, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride))."""
        return self.convolve(x, self.weight, self.bias)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.out_channels == self.in_channels:  # cat would copy even a single map
            return self._conv_forward(x, weight, bias)
        weights = weight.to(x.dtype).split(self.in_channels)  # autocast would cast each part
        # A bias exists after mmcv's fuse_conv_bn has merged a BatchNorm into the weights.
        biases = [None] * len(weights) if bias is None else bias.split(self.in_channels)
        pairs = zip(weights, biases, strict=True)
        return torch.cat([self._conv_forward(x, w, b) for w, b in pairs], dim=1)


class DynamicReLU(nn.Module):
    """y = max(a1 x, a2 x), with a1 in [0, 2] and a2 in [-1, 1] computed from the tokens.

    Args:
        channels (int): Channels C of the map.
        token_dim (int): Width d of a token.
        reduction (int): Factor by which d is reduced in the hidden layer.
    """

    def __init__(self, channels: int, token_dim: int, *, reduction: int = 4) -> None:
        super().__init__()
        self.squeeze = nn.Linear(token_dim, token_dim // reduction)
        self.expand = nn.Linear(token_dim // reduction, 2 * channels)

    def forward(self, x: Tensor, tokens: Tensor, mix: Tensor | None = None) -> Tensor:
        """Activate x (N, C, H, W), controlled by tokens (N, T, d).

        ``mix`` (N, T, H, W) holds each position's weights over the tokens and selects the
        spatial-aware form; None selects the plain form.
        """
        return self.activate(x, *self.slopes(x, tokens, mix))

    def slopes(self, x: Tensor, tokens: Tensor, mix: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return a1 - a2 and a2, (N, C, 1, 1) each, or (N, C, H, W) in the spatial-aware form."""
        if mix is None:
            scores = self.scores(tokens[:, 0]).to(x.dtype)[:, :, None, None]  # (N, 2C, 1, 1)
        else:
            mix = mix.flatten(2).transpose(1, 2)  # (N, HW, T)
            scores = torch.bmm(mix, self.scores(tokens).to(mix.dtype))  # (N, HW, 2C)
            scores = scores.transpose(1, 2).unflatten(2, x.shape[2:])  # (N, 2C, H, W)
        a1, s2 = (2 * scores).chunk(2, dim=1)  # a1 = 2 (s1 - 1/2) + 1
        a2 = s2 - 1  # 2 (s - 1/2)
        return a1 - a2, a2

    def activate(self, x: Tensor, rise: Tensor, slope: Tensor) -> Tensor:
        """Compute max(a1 x, a2 x) with rise = a1 - a2 and slope = a2."""
        return _MaxOfSlopes.apply(x, rise, slope)

    def scores(self, tokens: Tensor) -> Tensor:
        """Tokens (..., d) -> scores (..., 2C) in [0, 1], without autocast as in Former."""
        with without_autocast(tokens):
            return F.hardsigmoid(self.expand(F.relu(self.squeeze(tokens))))


class _MaxOfSlopes(torch.autograd.Function):
    """x (N, C, H, W), rise and slope -> slope x + relu(rise x).

    The maps of this function are the largest of the encoder. Autograd's backward pass would read
    and write them a third more often, and that of torch.maximum more often still.
    """

    @staticmethod
    def forward(ctx, x, rise, slope):
        rising = F.relu(x * rise)
        ctx.save_for_backward(x, rise, slope, rising)
        return torch.addcmul(rising, x, slope)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, rise, slope, rising = ctx.saved_tensors
        d_rising = torch.ops.aten.threshold_backward(grad, rising, 0)  # grad where rising > 0
        dx = torch.addcmul(grad * slope, d_rising, rise)
        return dx, (d_rising * x).sum_to_size(rise.shape), (grad * x).sum_to_size(slope.shape)


class BneckLite(nn.Module):
    """Lite bottleneck: expanding depthwise convolution, ReLU6, 1x1 projection; no tokens.

    A residual connection is used if the shapes match.

    Args:
        in_channels (int): Channels of the map, a divisor of ``hidden_channels``.
        hidden_channels (int): Channels after the depthwise convolution.
        out_channels (int): Channels of the output map.
        stride (int): Of the depthwise convolution.
        groups (int): Of the 1x1 convolution.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.filter = depthwise(in_channels, hidden_channels, stride=stride)
        self.act = nn.ReLU6()
        self.project = pointwise(hidden_channels, out_channels, groups=groups)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride)).

        padding_mask (N, H, W) marks positions that are ignored.
        """
        y = self.filter(zero_padding(x, padding_mask))  # (N, hidden, H/stride, W/stride)
        y = self.project(self.act(y))  # (N, out_channels, H/stride, W/stride)
        return x + y if self.residual else y


class Mobile(nn.Module):
    """Stride 1: expand, filter, project, with dynamic ReLU; residual if the channels match.

    Args:
        in_channels (int): Channels of the map.
        hidden_channels (int): Channels between the two 1x1 convolutions.
        out_channels (int): Channels of the output map.
        token_dim (int): Width d of a token.
        groups (int): Of the 1x1 convolutions.
    """

    stride = 1

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        token_dim: int,
        *,
        groups: int = 1,
    ) -> None:
        super().__init__()
        shuffle = groups > 1
        self.expand = pointwise(in_channels, hidden_channels, groups=groups, shuffle=shuffle)
        self.act1 = DynamicReLU(hidden_channels, token_dim)
        self.filter = depthwise(hidden_channels, hidden_channels)
        self.act2 = DynamicReLU(hidden_channels, token_dim)
        self.project = pointwise(hidden_channels, out_channels, groups=groups, shuffle=shuffle)
        self.residual = in_channels == out_channels

    def forward(
        self,
        x: Tensor,
        tokens: Tensor,
        mix: Tensor | None = None,
        padding_mask: Tensor | None = None,
    ) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H, W); ``mix`` as in :class:`DynamicReLU`."""
        y = self.act1(self.expand(x), tokens, mix)  # (N, hidden, H, W)
        y = self.act2(self.filter(zero_padding(y, padding_mask)), tokens, mix)
        y = self.project(y)  # (N, out_channels, H, W)
        return x + y if self.residual else y


class MobileDown(nn.Module):
    """Stride 2: an expanding strided filter and a projection, then the same at stride 1.

    Args:
        in_channels (int): Channels of the map, a divisor of ``hidden_channels``.
        hidden_channels (int): Channels after the strided filter.
        out_channels (int): Channels of the output map.
        token_dim (int): Width d of a token.
        expansion (int): Expansion of the second half.
        groups (int): Of the 1x1 convolutions.
    """

    stride = 2

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        token_dim: int,
        *,
        expansion: int = 4,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.filter1 = depthwise(in_channels, hidden_channels, stride=2)
        self.act1 = DynamicReLU(hidden_channels, token_dim)
        self.project1 = pointwise(hidden_channels, out_channels, groups=groups)
        self.filter2 = depthwise(out_channels, expansion * out_channels)
        self.act2 = DynamicReLU(expansion * out_channels, token_dim)
        self.project2 = pointwise(expansion * out_channels, out_channels, groups=groups)

    def forward(
        self,
        x: Tensor,
        tokens: Tensor,
        mix: Tensor | None = None,
        padding_mask: Tensor | None = None,
    ) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, ceil(H/2), ceil(W/2)).

        padding_mask (N, H, W) is at the input resolution, ``mix`` at the output resolution.
        """
        x = self.filter1(zero_padding(x, padding_mask))  # (N, hidden, H/2, W/2)
        x = self.project1(self.act1(x, tokens, mix))  # (N, out_channels, H/2, W/2)
        y = self.filter2(zero_padding(x, downsample_mask(padding_mask)))
        y = self.project2(self.act2(y, tokens, mix))  # (N, out_channels, H/2, W/2)
        return x + y
