"""The attentions of a detection decoder's block: post-norm, with full projections and positions.

Paper: arXiv 2305.16319, Appendix; the table of the decoders is lost, and the published sizes force
full projections of queries, keys and values. The encoder's bridges read the raw map without them,
so the two share no code. Positions are added to queries and keys of every layer and not to values;
dropout and ReLU stand where they do in DETR (arXiv 2005.12872), which the paper builds on.

Legend: N images, L positions or queries on one side, K on the other, D width; mask: True = padding.
"""

from torch import Tensor, nn


class CrossAttentionLayer(nn.Module):
    """One side reads the other: queries the map (Mobile->Former) or the map the queries."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True)
        self.drop = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        x: Tensor,
        pos: Tensor,
        other: Tensor,
        other_pos: Tensor,
        padding: Tensor | None = None,
    ) -> Tensor:
        """x (N, L, D) reads other (N, K, D), each at its positions; padding (N, K) is not read."""
        read, _ = self.attention(
            x + pos, other + other_pos, other, key_padding_mask=padding, need_weights=False
        )
        return self.norm(x + self.drop(read))  # (N, L, D)


class EncoderLayer(nn.Module):
    """Attention among equals and a feed-forward network: queries (Former), or a map (in M-F+)."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True)
        self.norm1 = nn.LayerNorm(dim)
        self.ffn = nn.Sequential(
            nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, dim)
        )
        self.norm2 = nn.LayerNorm(dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, pos: Tensor, padding: Tensor | None = None) -> Tensor:
        """(N, L, D) at positions (N, L, D) -> (N, L, D); padding (N, L) is not read."""
        read, _ = self.attention(x + pos, x + pos, x, key_padding_mask=padding, need_weights=False)
        x = self.norm1(x + self.drop(read))
        return self.norm2(x + self.drop(self.ffn(x)))
