"""Mobile->Former: the tokens read the map (arXiv 2108.05895, Sec. 3.1, Eq. 1).

Keys and values are the map itself, without a projection. The gate on what was read is not in the
paper's text; its width and bias are forced by the published parameter counts.

The heads are a loop: each takes its slice of the channels as it lies in memory, whatever the memory
format, and the positions stay the long side of every product. With six tokens that takes a third of
the time of torch's fused attention, or less (maps of 64-pixel crops, bfloat16, CPU).

Legend: N images, C channels, T tokens of width d, H x W positions, h heads; mask: True = padding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional import masked_avg_pool


class MobileToFormer(nn.Module):
    """Gated cross attention from the tokens to the map, residual, LayerNorm.

    Args:
        channels (int): Channels C of the map, a multiple of ``heads``.
        token_dim (int): Width d of a token.
        heads (int): Attention heads; each reads C / heads channels of the map.
    """

    def __init__(self, channels: int, token_dim: int, *, heads: int = 2) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f'channels must be a multiple of heads={heads}, got {channels}')
        self.heads = heads
        self.scale = (channels / heads) ** -0.5
        self.query = nn.Linear(token_dim, channels)
        self.gate = nn.Linear(token_dim, channels)
        self.out = nn.Linear(channels, token_dim)
        self.norm = nn.LayerNorm(token_dim)

    def forward(self, x: Tensor, tokens: Tensor, padding: Tensor | None = None) -> Tensor:
        """Map (N, C, H, W) and tokens (N, T, d) to the new tokens (N, T, d).

        Positions where the mask ``padding`` (N, H, W) is True are not read.
        """
        read = self.attend(x, tokens, padding)  # (N, T, C)
        read = read * (2 * F.hardsigmoid(self.gate(tokens)))
        return self.norm(tokens + self.out(read))  # (N, T, d)

    def attend(self, x: Tensor, tokens: Tensor, padding: Tensor | None = None) -> Tensor:
        """What every token reads from the map, (N, T, C)."""
        query = self.query(tokens) * self.scale  # (N, T, C)
        reads = []
        for q, kv in zip(query.chunk(self.heads, 2), x.chunk(self.heads, 1), strict=True):
            kv = kv.flatten(2).to(q.dtype)  # (N, C/h, HW)
            logits = torch.bmm(q, kv)  # (N, T, HW)
            if padding is not None:
                logits = logits.masked_fill(padding.flatten(1)[:, None], float('-inf'))
            weights = logits.softmax(dim=2)  # (N, T, HW)
            reads.append(torch.bmm(weights, kv.transpose(1, 2)))  # (N, T, C/h)
        return torch.cat(reads, dim=2)

    def mixture(
        self, x: Tensor, tokens: Tensor, padding: Tensor | None = None, *, stride: int = 1
    ) -> Tensor:
        """Each position's weights over the tokens, (N, T, ceil(H/stride), ceil(W/stride)).

        They are the softmax over the tokens of the logits averaged over the heads (and over those
        of the ``stride`` x ``stride`` positions that become one which are no ``padding``). The
        average over the heads of q_h k_h is the product over all channels divided by h.
        """
        query = self.query(tokens) * (self.scale / self.heads)
        logits = torch.bmm(query, x.flatten(2).to(query.dtype))  # (N, T, HW)
        logits = logits.unflatten(2, x.shape[2:])  # (N, T, H, W)
        if stride > 1:
            logits = masked_avg_pool(logits, stride, padding)
        return logits.softmax(dim=1)
