"""A block of the Mobile-Former decoder: queries and map refine each other.

Paper: arXiv 2305.16319, Appendix; the table of the decoders is lost, and this structure meets all
12 published sizes. The order is the encoder's: Mobile->Former, Former, Mobile, Former->Mobile. New
are a position for every query, which each block moves, and M-F+, whose Mobile is self-attention:
at stride 32 the map is small enough for it.

Legend: N images, Q queries, H x W positions, D width; mask: True = padding.
"""

from typing import NamedTuple

from torch import Tensor, nn

from ..functional import zero_padding
from .decoder_attention import CrossAttentionLayer, EncoderLayer
from .decoder_mobile import MaskedBottleneck


class DecoderState(NamedTuple):
    """What a block refines."""

    queries: Tensor  # z (N, Q, D), what each query knows
    positions: Tensor  # p (N, Q, D), where it looks
    map: Tensor  # x (N, D, H, W), 0 at padding


class DecoderBlock(nn.Module):
    """M-F+ or M-F-.

    Args:
        dim (int): Width D of queries and map.
        plus (bool): M-F+, with self-attention on the map; else M-F-, with a bottleneck.
        heads (int): Heads of every attention.
        hidden (int): Width inside the feed-forward networks and the bottleneck.
        dropout (float): On attention weights, what was read, and the feed-forward networks.
        last (bool): Stop after the queries: nobody reads the map and the positions any more.
    """

    def __init__(
        self, dim: int, *, plus: bool, heads: int, hidden: int, dropout: float, last: bool = False
    ) -> None:
        super().__init__()
        self.skip_map_update = last
        self.to_former = CrossAttentionLayer(dim, heads, dropout)
        self.former = EncoderLayer(dim, heads, hidden, dropout)
        if last:
            return
        self.map_attention = plus
        if plus:
            self.mobile = EncoderLayer(dim, heads, hidden, dropout)
        else:
            self.mobile = MaskedBottleneck(dim, hidden, dim)
        self.to_mobile = CrossAttentionLayer(dim, heads, dropout)
        self.pos_update = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))

    def forward(
        self, state: DecoderState, sine: Tensor, padding: Tensor | None = None
    ) -> DecoderState:
        """Refine ``state``; sine (N or 1, H, W, D) are the map's positions, padding (N, H, W)."""
        z, p, x = state
        size = x.shape[2:]
        rows = flatten_hw(x)  # (N, HW, D)
        sine = sine.flatten(1, 2)  # (N, HW, D)
        hidden = None if padding is None else padding.flatten(1)  # (N, HW)
        z = self.to_former(z, p, rows, sine, hidden)
        z = self.former(z, p)
        if self.skip_map_update:
            return DecoderState(z, p, x)
        if self.map_attention:
            rows = self.mobile(rows, sine, hidden)
        else:
            rows = flatten_hw(self.mobile(x, padding))
        rows = self.to_mobile(rows, sine, z, p)
        x = zero_padding(rows.transpose(1, 2).unflatten(2, size), padding)  # (N, D, H, W)
        return DecoderState(z, p + self.pos_update(z), x)


def flatten_hw(x: Tensor) -> Tensor:
    """A map (N, D, H, W) as positions (N, HW, D), each in one piece of memory.

    torch multiplies rows that are scattered one by one where the weights want no gradient, as in a
    model that serves: twice the time of a whole prediction with W720 + 211.
    """
    return x.flatten(2).transpose(1, 2).contiguous()
