"""Former->Mobile: the map reads the tokens (arXiv 2108.05895, Sec. 3.1, Eq. 2).

The query is the map itself, without a projection, and what is read is added without one.
The heads are a loop for the reason given in ``mobile_to_former.py``.

Legend: N images, C channels, T tokens of width d, H x W positions, h heads.
"""

import torch
from torch import Tensor, nn


class FormerToMobile(nn.Module):
    """Cross attention from the map to the tokens; the caller adds the result to the map.

    Args:
        channels (int): Channels C of the map, a multiple of ``heads``.
        token_dim (int): Width d of a token.
        heads (int): Attention heads.
    """

    def __init__(self, channels: int, token_dim: int, *, heads: int = 2) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f'channels must be a multiple of heads={heads}, got {channels}')
        self.heads = heads
        self.scale = (channels / heads) ** -0.5
        self.key = nn.Linear(token_dim, channels)
        self.value = nn.Linear(token_dim, channels)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Map (N, C, H, W) and tokens (N, T, d) to what each position reads, (N, C, H, W)."""
        key, value = self.key(tokens) * self.scale, self.value(tokens)  # (N, T, C)
        reads = []
        for q, k, v in zip(
            x.chunk(self.heads, 1),
            key.chunk(self.heads, 2),
            value.chunk(self.heads, 2),
            strict=True,
        ):
            weights = torch.bmm(k, q.flatten(2).to(k.dtype)).softmax(dim=1)  # (N, T, HW)
            reads.append(torch.bmm(weights.transpose(1, 2), v))  # (N, HW, C/h)
        read = torch.cat(reads, dim=2).transpose(1, 2)  # (N, C, HW)
        return read.unflatten(2, x.shape[2:])  # (N, C, H, W)
