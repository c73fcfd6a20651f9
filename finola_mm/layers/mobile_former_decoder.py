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
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional import copy_to_device, sine_positions, upsample_2x, zero_padding
from ..functional.compat import not_compiled
from .mobile import BneckLite, DepthwiseConv2d, depthwise, pointwise

# Blocks at stride 32 (M-F+), at 16 and at 8 (M-F-).
ARCHS: dict[str, tuple[int, int, int]] = {'522': (5, 2, 2), '211': (2, 1, 1)}


class DecoderState(NamedTuple):
    """The quantities that a block refines."""

    queries: Tensor  # z (N, Q, D)
    positions: Tensor  # p (N, Q, D), of the queries
    map: Tensor  # x (N, D, H, W), arbitrary at padding


class Padding(NamedTuple):
    """The padding of the maps of one scale, in the forms that the layers of its blocks use."""

    mask: Tensor  # (N, H, W) bool, True = padding
    attn_bias: Tensor  # (N, 1, 1, HW), added to logits of attention; -inf = padding, 0 = image
    valid: Tensor  # (P,) long, the P positions inside images among the NHW of the batch

    def gather(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> its valid positions (1, C, P, 1)."""
        rows = x.permute(0, 2, 3, 1).flatten(0, 2)  # (NHW, C)
        return rows.index_select(0, self.valid).T[None, :, :, None]

    def scatter(self, x: Tensor) -> Tensor:
        """Valid positions (1, C, P, 1) -> the map (N, C, H, W), 0 at padding."""
        rows = x.new_zeros(self.mask.numel(), x.shape[1])  # (NHW, C)
        rows = rows.index_copy(0, self.valid, x.permute(0, 2, 3, 1).flatten(0, 2))
        return rows.unflatten(0, self.mask.shape).permute(0, 3, 1, 2)


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
            if isinstance(module, Attention):
                nn.init.xavier_uniform_(module.in_proj_weight)
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, feats: Sequence[Tensor], padding_mask: Tensor | None = None) -> Tensor:
        """Maps (N, C8, H, W) and (N, C16, ceil(H/2), ceil(W/2)) -> queries (B, N, Q, D).

        padding_mask (N, H, W) belongs to the first map and should be on the CPU, also if the maps
        are not. The queries after every block are returned; index -1 is the last block.

        Raises:
            ValueError: the second map is not at twice the stride, or the channels differ from
                ``in_channels``.
        """
        return torch.stack([state.queries for state in self.refine(feats, padding_mask)])

    def refine(
        self, feats: Sequence[Tensor], padding_mask: Tensor | None = None
    ) -> list[DecoderState]:
        """Return the complete state after every block; arguments as in ``forward``."""
        f8, f16 = check_maps(feats, self.in_channels)
        paddings = describe_paddings(padding_mask, f8)  # at strides 32, 16, 8
        masks = [None if padding is None else padding.mask for padding in paddings]
        f8, f16 = zero_padding(f8, masks[2]), zero_padding(f16, masks[1])
        p = self.positions.expand(f8.shape[0], -1, -1)  # (N, Q, D)
        state = DecoderState(torch.zeros_like(p), p, self.down(f16, paddings[0]))
        states = self.refine_at(0, state, paddings[0])
        for scale, feat in enumerate((f16, f8), 1):
            x = self.ups[scale - 1](states[-1].map, feat, masks[scale - 1], masks[scale])
            states += self.refine_at(scale, states[-1]._replace(map=x), paddings[scale])
        return states

    def refine_at(
        self, scale: int, state: DecoderState, padding: Padding | None
    ) -> list[DecoderState]:
        """Run the blocks of one scale (0 the coarsest) on ``state``; return it after each."""
        pos_embed = self.embed_positions(scale, state.map, padding)
        states = []
        for block in self.scales[scale]:
            state = block(state, pos_embed, padding)
            states.append(state)
        return states

    def embed_positions(self, scale: int, x: Tensor, padding: Padding | None) -> Tensor:
        """Return the positions of the map x (N, D, H, W) in the form that its blocks use."""
        extent = x.new_zeros(1, *x.shape[2:], dtype=torch.bool) if padding is None else padding.mask
        pos_embed = sine_positions(extent, self.dim).flatten(1, 2)  # (N or 1, HW, D)
        pos_embed = pos_embed.to(x.dtype)
        return placement(pos_embed) if scale == 0 else pos_embed  # M-F+: (3, N or 1, HW, D)


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
        self.map_attention, self.skip_map_update = map_attention, skip_map_update
        self.to_former = CrossAttentionLayer(dim, heads, dropout)
        self.former = EncoderLayer(dim, heads, hidden, dropout)
        if skip_map_update:
            return
        self.mobile = (
            EncoderLayer(dim, heads, hidden, dropout)
            if map_attention
            else MaskedBottleneck(dim, hidden, dim)
        )
        self.to_mobile = CrossAttentionLayer(dim, heads, dropout)
        self.pos_update = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))

    def forward(
        self, state: DecoderState, pos_embed: Tensor, padding: Padding | None = None
    ) -> DecoderState:
        """Refine ``state``; pos_embed (N or 1, HW, D) and padding are those of the map.

        In M-F+, pos_embed is their ``placement``, (3, N or 1, HW, D).
        """
        z, p, x = state
        size = x.shape[2:]
        rows = flatten_hw(x)  # (N, HW, D)
        attn_bias = None if padding is None else padding.attn_bias  # (N, 1, 1, HW)
        query_pos = placement(p)  # (3, N, Q, D)
        placed = rows + pos_embed  # (3, N, HW, D) in M-F+, else (N, HW, D)
        memory = [placed[1:]] if self.map_attention else [placed, rows]
        z = self.to_former(z, [z + p, *memory], attn_bias)
        z = self.former(z, [z + query_pos])
        if self.skip_map_update:
            return DecoderState(z, p, x)
        if self.map_attention:
            rows = self.mobile(rows, [placed], attn_bias)
        else:
            rows = flatten_hw(self.mobile(x, padding))
        pos = pos_embed[0] if self.map_attention else pos_embed  # (N or 1, HW, D)
        rows = self.to_mobile(rows, [rows + pos, z + query_pos[1:]])
        x = rows.transpose(1, 2).unflatten(2, size)  # (N, D, H, W)
        return DecoderState(z, p + self.pos_update(z), x)


def placement(pos: Tensor) -> Tensor:
    """Positions (N, L, D) -> (3, N, L, D), to be added to the inputs of query, key and value."""
    return torch.stack([pos, pos, torch.zeros_like(pos)])


class Attention(nn.Module):
    """Multi-head attention with the parameters of ``nn.MultiheadAttention``, under their names.

    torch's layer transposes and copies its inputs, projects them one by one, and makes the mask
    anew in every call, each in kernels of their own. Here one batched product projects several
    inputs, and the mask is that of the scale.

    Args:
        dim (int): Width D of inputs and output.
        heads (int): Attention heads.
        dropout (float): For attention weights.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))  # of query, key, value
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, inputs: Sequence[Tensor], attn_bias: Tensor | None = None) -> Tensor:
        """Inputs of query (N, L, D), key (N, K, D) and value (N, K, D) -> (N, L, D).

        Inputs of the same length may be stacked: self-attention receives one tensor (3, N, L, D).
        attn_bias (N, 1, 1, K) is added to the logits.
        """
        q, k, v = self.project_inputs(inputs)
        dropout = self.dropout if self.training else 0.0
        read = F.scaled_dot_product_attention(q, k, v, attn_bias, dropout)  # (N, h, L, D/h)
        return self.out_proj(read.transpose(1, 2).flatten(2))

    def project_inputs(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return queries (N, h, L, D/h), keys and values (N, h, K, D/h)."""
        weights, biases = [self.in_proj_weight], [self.in_proj_bias]  # (3D, D) and (3D,)
        if len(inputs) > 1:
            sizes = [x.shape[:-3].numel() * x.shape[-1] for x in inputs]
            weights, biases = weights[0].split(sizes), biases[0].split(sizes)
        parts = zip(inputs, weights, biases, strict=True)
        return [head for part in parts for head in self.project(*part)]

    def project(self, x: Tensor, weight: Tensor, bias: Tensor) -> list[Tensor]:
        """x (N, L, D) -> [(N, h, L, D/h)]; x (P, N, L, D) -> P of them.

        weight (P * D, D) and bias (P * D) are those of P projections.
        """
        if x.ndim == 3:
            return [self.split_heads(F.linear(x, weight, bias))]
        weight = weight.unflatten(0, (len(x), -1)).transpose(1, 2)  # (P, D, D)
        rows = torch.baddbmm(bias.view(len(x), 1, -1), x.flatten(1, 2), weight)  # (P, NL, D)
        return [self.split_heads(part) for part in rows.view_as(x).unbind()]

    def split_heads(self, x: Tensor) -> Tensor:
        """(N, L, D) -> (N, h, L, D/h)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class CrossAttentionLayer(nn.Module):
    """Cross-attention, post-norm: from the queries to the map, or from the map to the queries."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(dim, heads, dropout)
        self.drop = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, x: Tensor, inputs: Sequence[Tensor], attn_bias: Tensor | None = None
    ) -> Tensor:
        """Update x (N, L, D); inputs and attn_bias as in :class:`Attention`."""
        return self.norm(x + self.drop(self.attention(inputs, attn_bias)))  # (N, L, D)


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network, post-norm: on queries, or on a map (in M-F+)."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(dim, heads, dropout)
        self.norm1 = nn.LayerNorm(dim)
        self.ffn = nn.Sequential(
            nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, dim)
        )
        self.norm2 = nn.LayerNorm(dim)
        self.drop = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, inputs: Sequence[Tensor], attn_bias: Tensor | None = None
    ) -> Tensor:
        """Update x (N, L, D); inputs and attn_bias as in :class:`Attention`."""
        x = self.norm1(x + self.drop(self.attention(inputs, attn_bias)))
        return self.norm2(x + self.drop(self.ffn(x)))


class MaskedBottleneck(BneckLite):
    """The convolutional half of M-F-: the encoder's bneck-lite with residual, and a mask."""

    def forward(  # type: ignore[override]
        self, x: Tensor, padding: Padding | None = None
    ) -> Tensor:
        """(N, D, H, W) -> (N, D, H, W), arbitrary at padding."""
        if padding is None:
            return super().forward(x)
        (conv, norm), x0 = self.filter, zero_padding(x, padding.mask)
        y = self.act(norm(padding.gather(conv(x0))))  # (1, hidden, P, 1)
        return x + padding.scatter(self.project(y))


class Downsample(nn.Module):
    """Downsample the encoder's last map to stride 32: strided depthwise filter and projection."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.filter = depthwise(channels, channels, stride=2)
        self.project = pointwise(channels, dim)

    def forward(self, feat: Tensor, padding: Padding | None) -> Tensor:
        """(N, C, H, W), 0 at padding -> (N, D, ceil(H/2), ceil(W/2)) with ``padding``."""
        if padding is None:
            return self.project(self.filter(feat))
        conv, norm = self.filter
        return padding.scatter(self.project(norm(padding.gather(conv(feat)))))


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


@not_compiled  # the length of an index depends on the values of the mask
def describe_paddings(padding_mask: Tensor | None, feat: Tensor) -> list[Padding | None]:
    """Return the padding at strides 32, 16 and 8; arguments as in ``describe_padding``."""
    if padding_mask is None:
        return [None] * 3
    return [describe_padding(padding_mask[:, ::s, ::s], feat) for s in (4, 2, 1)]


def describe_padding(padding_mask: Tensor, feat: Tensor) -> Padding:
    """Prepare mask (N, H, W) for the blocks of a scale, in the dtype and on the device of ``feat``.

    The mask should be on the CPU, which would otherwise wait for the GPU to count its positions.
    """
    positions = padding_mask[0].numel()
    # torch's attention kernel on CUDA copies a bias whose rows do not begin at multiples of 8.
    ignored = F.pad(padding_mask.flatten(1), (0, -positions % 8))
    attn_bias = torch.zeros_like(ignored, dtype=feat.dtype).masked_fill_(ignored, float('-inf'))
    valid = (~padding_mask).flatten().nonzero()[:, 0]
    copies = [copy_to_device(x, feat.device) for x in (padding_mask, attn_bias, valid)]
    return Padding(copies[0], copies[1][:, None, None, :positions], copies[2])


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
