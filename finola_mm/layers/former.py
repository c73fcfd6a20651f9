"""Former: the tokens talk to one another (arXiv 2108.05895, Fig. 3).

Keys and values are the tokens themselves; LayerNorm comes after each residual (post-norm). The
attention is written out: over six tokens torch's fused one takes 3 times as long in bfloat16 (CPU).

Legend: N images, T tokens of width d, h heads.
"""

import torch
from torch import Tensor, nn


class Former(nn.Module):
    """Self-attention and a feed-forward network on the tokens.

    Args:
        token_dim (int): Width d of a token, a multiple of ``heads``.
        heads (int): Attention heads.
        expansion (int): Hidden width of the feed-forward network over d.
    """

    def __init__(self, token_dim: int, *, heads: int = 4, expansion: int = 2) -> None:
        super().__init__()
        if token_dim % heads:
            raise ValueError(f'token_dim must be a multiple of heads={heads}, got {token_dim}')
        self.heads = heads
        self.scale = (token_dim / heads) ** -0.5
        self.query = nn.Linear(token_dim, token_dim)
        self.out = nn.Linear(token_dim, token_dim)
        self.norm1 = nn.LayerNorm(token_dim)
        self.ffn = nn.Sequential(
            nn.Linear(token_dim, expansion * token_dim),
            nn.GELU(),
            nn.Linear(expansion * token_dim, token_dim),
        )
        self.norm2 = nn.LayerNorm(token_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (N, T, d) to tokens (N, T, d)."""
        tokens = self.norm1(tokens + self.attend(tokens))
        return self.norm2(tokens + self.ffn(tokens))

    def attend(self, tokens: Tensor) -> Tensor:
        """Multi-head attention with raw keys and values, (N, T, d) to (N, T, d)."""
        query = self.query(tokens) * self.scale
        q = query.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (N, h, T, d/h)
        kv = tokens.to(q.dtype).unflatten(2, (self.heads, -1)).transpose(1, 2)
        weights = torch.matmul(q, kv.transpose(2, 3)).softmax(dim=3)  # (N, h, T, T)
        read = torch.matmul(weights, kv)  # (N, h, T, d/h)
        return self.out(read.transpose(1, 2).flatten(2))  # (N, T, d)
