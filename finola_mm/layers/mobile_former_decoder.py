"""Mobile-Former decoders for detection, MF-Dec-522 and MF-Dec-211.

Paper: arXiv 2305.16319, Section 5 and Appendix: 100 queries of width 256 pass through three scales,
from stride 32 to 8, in nine or four blocks. Table 11, which specifies the structure, was not
available. The structure here follows the text and matches all 12 published sizes
(tools/analysis/get_flops.py), which imply full projections of queries, keys and values. A block has
the encoder's order: Mobile->Former, Former, Mobile, Former->Mobile. Two parts are new: a position
for every query, updated by each block, and M-F+, whose Mobile is self-attention (at stride 32 the
map is small enough for it). Positions are added to queries and keys but not to values; dropout and
ReLU are placed as in DETR (arXiv 2005.12872). The map uses DETR's sine positional embedding, which
has no parameters.

Padded positions are masked throughout: excluded from attention keys, zeroed before each
convolution, and excluded from BatchNorm's training statistics. The result for an image is therefore
the same in every batch, up to rounding and those statistics.

Legend: N images, C channels, D width, H x W positions, L attending positions or queries, K attended
ones, Q queries, B blocks; strides 8, 16 and 32 of the image; mask: True = padding.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.nn import all_reduce

from ..functional import downsample_mask, sine_positions, upsample_2x, zero_padding
from ..functional.compat import attention_mask
from .mobile import BneckLite, DepthwiseConv2d, depthwise, pointwise

# Blocks at stride 32 (M-F+), at 16 and at 8 (M-F-).
ARCHS: dict[str, tuple[int, int, int]] = {'522': (5, 2, 2), '211': (2, 1, 1)}


class DecoderState(NamedTuple):
    """The quantities that a block refines."""

    queries: Tensor  # z (N, Q, D)
    positions: Tensor  # p (N, Q, D), of the queries
    map: Tensor  # x (N, D, H, W), 0 at padding


class MobileFormerDecoder(nn.Module):
    """Refine queries from coarse to fine over two maps of an encoder.

    Args:
        arch (str | Sequence[int]): '522', '211', or the numbers of blocks at strides 32, 16 and 8.
        in_channels (Sequence[int]): Channels of the encoder's maps at strides 8 and 16.
        num_queries (int): Q. Defaults to 100.
        dim (int): Width D, a multiple of ``heads`` and of 4. Defaults to 256.
        heads (int): Attention heads, as in DETR. Defaults to 8.
        hidden (int): Width inside the feed-forward networks and bottlenecks. Defaults to 1024.
        dropout (float): Defaults to 0.1.
    """

    def __init__(
        self,
        arch: str | Sequence[int],
        in_channels: Sequence[int],
        *,
        num_queries: int = 100,
        dim: int = 256,
        heads: int = 8,
        hidden: int = 1024,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.in_channels = fine, coarse = tuple(in_channels)
        self.num_queries, self.dim = num_queries, dim
        self.positions = nn.Parameter(torch.empty(num_queries, dim))
        self.down = Downsample(coarse, dim)
        self.ups = nn.ModuleList([UpsampleLateral(coarse, dim), UpsampleLateral(fine, dim)])
        self.scales: Any = nn.ModuleList()  # nested ModuleLists cannot be annotated
        for scale, depth in enumerate(get_arch(arch)):
            blocks = nn.ModuleList()
            for block in range(depth):
                last = scale == 2 and block == depth - 1  # its map is not used
                options = dict(map_attention=scale == 0, skip_map_update=last)
                blocks.append(DecoderBlock(dim, heads, hidden, dropout, **options))
            self.scales.append(blocks)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize as in DETR: positions from N(0, 1), linear layers Xavier-uniform."""
        nn.init.normal_(self.positions)
        for module in self.modules():
            if isinstance(module, nn.MultiheadAttention):
                nn.init.xavier_uniform_(module.in_proj_weight)
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, feats: Sequence[Tensor], padding_mask: Tensor | None = None) -> Tensor:
        """Maps (N, C8, H, W) and (N, C16, ceil(H/2), ceil(W/2)) -> queries (B, N, Q, D).

        padding_mask (N, H, W) belongs to the first map. The queries after every block are
        returned; index -1 is the last block.

        Raises:
            ValueError: the second map is not at twice the stride, or the channels differ from
                ``in_channels``.
        """
        return torch.stack([state.queries for state in self.refine(feats, padding_mask)])

    def refine(
        self, feats: Sequence[Tensor], padding_mask: Tensor | None = None
    ) -> list[DecoderState]:
        """Return the complete state after every block; arguments as in ``forward``."""
        masks = [downsample_mask(padding_mask, s) for s in (4, 2, 1)]  # strides 32, 16, 8
        f8, f16 = check_maps(feats, self.in_channels)
        f8, f16 = zero_padding(f8, masks[2]), zero_padding(f16, masks[1])
        p = self.positions.expand(f8.shape[0], -1, -1)  # (N, Q, D)
        state = DecoderState(torch.zeros_like(p), p, self.down(f16, masks[0]))
        states = self.refine_at(0, state, masks)
        for scale, feat in enumerate((f16, f8), 1):
            x = self.ups[scale - 1](states[-1].map, feat, masks[scale - 1], masks[scale])
            states += self.refine_at(scale, states[-1]._replace(map=x), masks)
        return states

    def refine_at(
        self, scale: int, state: DecoderState, masks: Sequence[Tensor | None]
    ) -> list[DecoderState]:
        """Run the blocks of one scale (0 the coarsest) on ``state``; return it after each."""
        mask, x = masks[scale], state.map
        extent = x.new_zeros(1, *x.shape[2:], dtype=torch.bool) if mask is None else mask
        pos_embed = sine_positions(extent, self.dim).to(x.dtype)  # (N or 1, H, W, D)
        state = state._replace(map=zero_padding(x, mask))
        states = []
        for block in self.scales[scale]:
            state = block(state, pos_embed, mask)
            states.append(state)
        return states


class DecoderBlock(nn.Module):
    """M-F+ or M-F-: queries and map refine each other.

    Args:
        dim (int): Width D of queries and map.
        heads (int): Heads of every attention.
        hidden (int): Width inside the feed-forward networks and the bottleneck.
        dropout (float): For attention weights, attention outputs and feed-forward networks.
        map_attention (bool): M-F+, with self-attention on the map; else M-F-, with a bottleneck.
        skip_map_update (bool): Update only the queries, for the decoder's last block.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int,
        dropout: float,
        *,
        map_attention: bool,
        skip_map_update: bool = False,
    ) -> None:
        super().__init__()
        self.skip_map_update = skip_map_update
        self.to_former = CrossAttentionLayer(dim, heads, dropout)
        self.former = EncoderLayer(dim, heads, hidden, dropout)
        if skip_map_update:
            return
        self.map_attention = map_attention
        self.mobile = (
            EncoderLayer(dim, heads, hidden, dropout)
            if map_attention
            else MaskedBottleneck(dim, hidden, dim)
        )
        self.to_mobile = CrossAttentionLayer(dim, heads, dropout)
        self.pos_update = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))

    def forward(
        self, state: DecoderState, pos_embed: Tensor, padding_mask: Tensor | None = None
    ) -> DecoderState:
        """Refine ``state``; pos_embed (N or 1, H, W, D) of the map, padding_mask (N, H, W)."""
        z, p, x = state
        size = x.shape[2:]
        rows = flatten_hw(x)  # (N, HW, D)
        pos_embed = pos_embed.flatten(1, 2)  # (N, HW, D)
        ignored = None if padding_mask is None else padding_mask.flatten(1)  # (N, HW)
        z = self.to_former(z, p, rows, pos_embed, ignored)
        z = self.former(z, p)
        if self.skip_map_update:
            return DecoderState(z, p, x)
        if self.map_attention:
            rows = self.mobile(rows, pos_embed, ignored)
        else:
            rows = flatten_hw(self.mobile(x, padding_mask))
        rows = self.to_mobile(rows, pos_embed, z, p)
        x = zero_padding(rows.transpose(1, 2).unflatten(2, size), padding_mask)  # (N, D, H, W)
        return DecoderState(z, p + self.pos_update(z), x)


class CrossAttentionLayer(nn.Module):
    """Cross-attention, post-norm: from the queries to the map, or from the map to the queries."""

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
        padding_mask: Tensor | None = None,
    ) -> Tensor:
        """x (N, L, D) attends to other (N, K, D) -> (N, L, D); padding_mask (N, K) of ``other``."""
        read, _ = self.attention(
            x + pos,
            other + other_pos,
            other,
            key_padding_mask=attention_mask(padding_mask),
            need_weights=False,
        )
        return self.norm(x + self.drop(read))  # (N, L, D)


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network, post-norm: on queries, or on a map (in M-F+)."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True)
        self.norm1 = nn.LayerNorm(dim)
        self.ffn = nn.Sequential(
            nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, dim)
        )
        self.norm2 = nn.LayerNorm(dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, pos: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """(N, L, D) at positions (N, L, D) -> (N, L, D); padding_mask (N, L)."""
        read, _ = self.attention(
            x + pos,
            x + pos,
            x,
            key_padding_mask=attention_mask(padding_mask),
            need_weights=False,
        )
        x = self.norm1(x + self.drop(read))
        return self.norm2(x + self.drop(self.ffn(x)))


class MaskedBottleneck(BneckLite):
    """The convolutional half of M-F-: the encoder's bneck-lite with residual, and a mask."""

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """(N, D, H, W), 0 at padding -> (N, D, H, W)."""
        y = self.act(masked_conv_bn(self.filter, x, padding_mask))  # (N, hidden, H, W)
        return x + masked_conv_bn(self.project, y, padding_mask)


class Downsample(nn.Module):
    """Downsample the encoder's last map to stride 32: strided depthwise filter and projection."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.filter = depthwise(channels, channels, stride=2)
        self.project = pointwise(channels, dim)

    def forward(self, feat: Tensor, padding_mask: Tensor | None) -> Tensor:
        """(N, C, H, W), 0 at padding -> (N, D, ceil(H/2), ceil(W/2)) with ``padding_mask``."""
        filtered = masked_conv_bn(self.filter, feat, padding_mask)
        return masked_conv_bn(self.project, filtered, padding_mask)


class UpsampleLateral(nn.Module):
    """Upsample and filter a map, and add the encoder's map at the finer stride."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.up = nn.Sequential(DepthwiseConv2d(dim, dim), nn.Conv2d(dim, dim, 1))
        self.lateral = nn.Conv2d(channels, dim, 1)

    def forward(
        self, x: Tensor, feat: Tensor, padding_mask: Tensor | None, finer_mask: Tensor | None
    ) -> Tensor:
        """x (N, D, h, w) and feat (N, C, H, W) -> (N, D, H, W); masks are those of x and feat."""
        x = zero_padding(upsample_2x(x, feat.shape[2:], padding_mask), finer_mask)
        return self.up(x) + self.lateral(feat)


def masked_conv_bn(layer: nn.Sequential, x: Tensor, padding_mask: Tensor | None) -> Tensor:
    """Apply a convolution and BatchNorm, whose training statistics exclude padded positions.

    x is 0 at padding; padding_mask (N, H, W) is that of the result.
    """
    conv, norm = layer
    x = conv(x)  # (N, C, H, W)
    if padding_mask is None or not norm.training:
        return norm(x)
    return masked_batch_norm(norm, x, padding_mask)


def masked_batch_norm(norm: Any, x: Tensor, padding_mask: Tensor) -> Tensor:
    """Apply BatchNorm or SyncBatchNorm in training mode with the statistics of valid positions.

    x (N, C, H, W), padding_mask (N, H, W) -> (N, C, H, W), 0 at padding. Masks are not used as
    indices, for which the CPU would wait for the GPU.
    """
    valid = ~padding_mask[:, None]  # (N, 1, H, W)
    values = x.to(norm.running_mean.dtype)  # float32 under autocast
    count = sum_over_ranks(norm, valid.sum().to(values.dtype))
    mean = sum_over_ranks(norm, torch.where(valid, values, 0).sum((0, 2, 3))) / count  # (C,)
    centred = torch.where(valid, values - mean[:, None, None], 0)
    var = sum_over_ranks(norm, centred.square().sum((0, 2, 3))) / count  # (C,)
    with torch.no_grad():
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(var * count / (count - 1).clamp(min=1), norm.momentum)  # unbiased
    scale = norm.weight * (var + norm.eps).rsqrt()
    y = centred * scale[:, None, None] + norm.bias[:, None, None]
    return torch.where(valid, y, 0).to(x.dtype)


def sum_over_ranks(norm: Any, x: Tensor) -> Tensor:
    """Sum x over the ranks of a SyncBatchNorm; x of any other norm is returned unchanged."""
    if not isinstance(norm, nn.SyncBatchNorm) or not torch.distributed.is_initialized():
        return x
    return all_reduce(x, group=norm.process_group)


def flatten_hw(x: Tensor) -> Tensor:
    """Flatten a map (N, D, H, W) to contiguous positions (N, HW, D).

    If the weights require no gradient, as in inference, torch multiplies strided rows one by one.
    This would double the time of a whole prediction with W720 + 211.
    """
    return x.flatten(2).transpose(1, 2).contiguous()


def get_arch(arch: str | Sequence[int]) -> tuple[int, ...]:
    """Return the numbers of blocks at strides 32, 16 and 8.

    Raises:
        ValueError: the name is unknown, or the value is not three positive numbers.
    """
    if isinstance(arch, str) and arch in ARCHS:
        return ARCHS[arch]
    if isinstance(arch, str) or len(arch) != 3 or min(arch) < 1:
        raise ValueError(
            f'arch must be one of {", ".join(ARCHS)} or three positive numbers of blocks, '
            f'got {arch!r}'
        )
    return tuple(arch)


def check_maps(feats: Sequence[Tensor], channels: tuple[int, ...]) -> Sequence[Tensor]:
    """Return ``feats`` if they are two maps of these channels, the second at twice the stride."""
    shapes = [tuple(feat.shape[2:]) for feat in feats]
    if len(feats) != 2 or shapes[1] != tuple(-(-side // 2) for side in shapes[0]):
        raise ValueError(
            f'the decoder requires two maps, at strides 8 and 16, got maps of {shapes}. Set '
            "the encoder's out_indices=(2, 4)"
        )
    found = tuple(feat.shape[1] for feat in feats)
    if found != channels:
        raise ValueError(
            f"the encoder's maps must have the decoder's in_channels, {channels}, got {found}. Set "
            f'decoder.in_channels={found}, or another arch of the encoder'
        )
    return feats
