"""Dynamic ReLU whose coefficients come from the tokens.

Source: Mobile-Former (arXiv 2108.05895), Sec. 3.2; the function is that of "Dynamic ReLU" (arXiv
2003.10027) with the average pooling replaced by a token. Two forms share every weight:

* plain (default): one pair of slopes per image and channel, read from the first token;
* spatial-aware: every token proposes a pair, every position mixes the six proposals.

Legend: N images, C channels, T tokens of width d, H x W positions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .prediction import predicts_on_cpu

# Elements of a map that each thread of a prediction activates at a time: in float32 1 MB with what
# is made of them on the way, about the cache of a core.
SLICE = 2**17


class DynamicReLU(nn.Module):
    """y = max(a1 x, a2 x), with a1 in [0, 2] and a2 in [-1, 1] computed from the tokens.

    Args:
        channels (int): Channels C of the map.
        token_dim (int): Width d of a token.
        reduction (int): d is squeezed by this factor on the way to the coefficients.
    """

    def __init__(self, channels: int, token_dim: int, *, reduction: int = 4) -> None:
        super().__init__()
        self.squeeze = nn.Linear(token_dim, token_dim // reduction)
        self.expand = nn.Linear(token_dim // reduction, 2 * channels)

    def forward(self, x: Tensor, tokens: Tensor, mix: Tensor | None = None) -> Tensor:
        """Activate x (N, C, H, W) under tokens (N, T, d).

        ``mix`` (N, T, H, W) holds each position's weights over the tokens and selects the
        spatial-aware form; None is the plain form. A prediction on a CPU overwrites ``x``.
        """
        if mix is None:
            scores = self.scores(tokens[:, 0])[:, :, None, None]  # (N, 2C, 1, 1)
        else:
            mix = mix.flatten(2).transpose(1, 2)  # (N, HW, T)
            scores = torch.bmm(mix, self.scores(tokens))  # (N, HW, 2C)
            scores = scores.transpose(1, 2).unflatten(2, x.shape[2:])
        s1, s2 = scores.to(x.dtype).chunk(2, dim=1)
        a1, a2 = 2 * s1, 2 * s2 - 1  # 2 (s - 1/2) + 1 and 2 (s - 1/2)
        if predicts_on_cpu(x):
            return activate_(x, a1 - a2, a2)
        # max(u, v) = v + relu(u - v). The backward pass of torch.maximum masks its elements one by
        # one; this takes a seventh of the time, forward and backward, in bfloat16 on a CPU.
        return torch.addcmul(F.relu(x * (a1 - a2)), x, a2)

    def scores(self, tokens: Tensor) -> Tensor:
        """Tokens (..., d) to scores (..., 2C) in [0, 1]."""
        return F.hardsigmoid(self.expand(F.relu(self.squeeze(tokens))))


def activate_(x: Tensor, rise: Tensor, slope: Tensor) -> Tensor:
    """relu(x rise) + x slope in place of x (N, C, H, W), a few rows of the map at a time.

    The same operators on the same elements as over the whole map, whose two intermediate maps would
    be fresh memory: in place it takes a tenth of the time at 100 MB.
    """
    rows = max(1, SLICE * torch.get_num_threads() * x.shape[2] // max(1, x.numel()))
    slices = (t.expand_as(x).split(rows, dim=2) for t in (x, rise, slope))
    for part, r, s in zip(*slices, strict=True):
        torch.addcmul((part * r).relu_(), part, s, out=part)
    return x
