"""Pre-norm transformer block of ViT (arXiv 2010.11929, Eq. 2-3).

Legend: N images, L tokens, K of them computed, D width.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from ..functional import gather_tokens
from .autocast import LayerNorm


class TransformerBlock(nn.Module):
    """Self-attention and an MLP with GELU, each with a pre-norm and a residual.

    Args:
        dim (int): Width D, a multiple of ``num_heads``.
        num_heads (int): Attention heads.
        mlp_ratio (float): Ratio of the MLP's hidden width to D. Defaults to 4.
    """

    def __init__(self, dim: int, num_heads: int, *, mlp_ratio: float = 4.0):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f'the width must be a multiple of num_heads={num_heads}, got {dim}')
        self.num_heads = num_heads
        hidden = int(dim * mlp_ratio)
        self.norm1 = LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """(N, L, D) -> (N, L, D); with ``positions`` (N, K) only those tokens, (N, K, D).

        Attention still covers all L tokens.
        """
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)  # (N, L, D) each
        if positions is not None:
            x, q = gather_tokens(x, positions), gather_tokens(q, positions)  # (N, K, D)
        x = x + self.proj(self.attention(q, k, v))
        x = x + self.mlp(self.norm2(x))
        return x

    def attention(self, *qkv: Tensor) -> Tensor:
        """Multi-head attention of queries (N, K, D) over keys and values (N, L, D) -> (N, K, D)."""
        heads = (t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in qkv)
        x = F.scaled_dot_product_attention(*heads)  # (N, heads, K, D/heads)
        return x.transpose(1, 2).flatten(2)  # (N, K, D)
