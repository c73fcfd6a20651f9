"""Mobile-Former decoders for detection, MF-Dec-522 and MF-Dec-211.

Paper: arXiv 2305.16319, Section 5 and Appendix: 100 queries of width 256 pass three scales, from
stride 32 to 8, by nine blocks or four. The table of the structure is lost; what stands here is
worked out from the text and meets all 12 published sizes (tools/analysis/get_flops.py). Positions
of the map are DETR's sines at every scale, and carry no parameters.

Legend: N images, C channels, Q queries of width D, B blocks; strides 8, 16 and 32 of the image;
mask: True = padding.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..functional import downsample_mask, sine_positions, zero_padding
from .decoder_block import DecoderBlock, DecoderState
from .decoder_mobile import Downsample, UpsampleLateral

# Blocks at stride 32 (M-F+), at 16 and at 8 (M-F-).
ARCHS: dict[str, tuple[int, int, int]] = {'522': (5, 2, 2), '211': (2, 1, 1)}


class MobileFormerDecoder(nn.Module):
    """Queries refined from coarse to fine over two maps of an encoder.

    Args:
        arch (str | Sequence[int]): '522', '211', or the blocks at strides 32, 16 and 8.
        in_channels (Sequence[int]): Channels of the encoder's maps at stride 8 and at 16.
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
        depths = get_arch(arch)
        self.in_channels = fine, coarse = tuple(in_channels)
        self.num_queries, self.dim = num_queries, dim
        self.positions = nn.Parameter(torch.empty(num_queries, dim))
        self.down = Downsample(coarse, dim)
        self.ups = nn.ModuleList([UpsampleLateral(coarse, dim), UpsampleLateral(fine, dim)])
        self.scales = nn.ModuleList(
            nn.ModuleList(
                DecoderBlock(
                    dim,
                    map_attention=scale == 0,
                    heads=heads,
                    hidden=hidden,
                    dropout=dropout,
                    skip_map_update=scale == 2 and block == depth - 1,
                )
                for block in range(depth)
            )
            for scale, depth in enumerate(depths)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """DETR's: positions N(0, 1), linear layers Xavier; convolutions keep torch's default."""
        nn.init.normal_(self.positions)
        for module in self.modules():
            if isinstance(module, nn.MultiheadAttention):
                nn.init.xavier_uniform_(module.in_proj_weight)
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, feats: Sequence[Tensor], padding: Tensor | None = None) -> Tensor:
        """Maps (N, C8, H, W) and (N, C16, ceil(H/2), ceil(W/2)) to queries (B, N, Q, D).

        padding (N, H, W): the first map's. Its values and its extent influence nothing (in
        training, but for the choice of dropout). The queries of every block are returned, the last
        block's last.

        Raises:
            ValueError: maps that are not a stride apart, or of other widths than in_channels.
        """
        return torch.stack([state.queries for state in self.refine(feats, padding)])

    def refine(self, feats: Sequence[Tensor], padding: Tensor | None = None) -> list[DecoderState]:
        """The same, with the positions and the map that each block leaves behind."""
        masks = (
            downsample_mask(padding, 4),
            downsample_mask(padding),
            padding,
        )  # strides 32, 16, 8
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
        """What each block of a scale (0 the coarsest) makes of ``state``."""
        padding, x = masks[scale], state.map
        extent = x.new_zeros(1, *x.shape[2:], dtype=torch.bool) if padding is None else padding
        sine = sine_positions(extent, self.dim).to(x.dtype)  # (N or 1, H, W, D)
        state = state._replace(map=zero_padding(x, padding))
        states = []
        for block in self.scales[scale]:
            state = block(state, sine, padding)
            states.append(state)
        return states


def get_arch(arch: str | Sequence[int]) -> tuple[int, ...]:
    """The blocks at strides 32, 16 and 8.

    Raises:
        ValueError: unknown name, or not three positive numbers.
    """
    if isinstance(arch, str) and arch in ARCHS:
        return ARCHS[arch]
    if isinstance(arch, str) or len(arch) != 3 or min(arch) < 1:
        raise ValueError(
            f'arch must be one of {", ".join(ARCHS)} or three numbers of blocks, got {arch!r}'
        )
    return tuple(arch)


def check_maps(feats: Sequence[Tensor], channels: tuple[int, int]) -> Sequence[Tensor]:
    """``feats`` if they are two maps of these widths, the second at twice the stride."""
    shapes = [tuple(feat.shape[2:]) for feat in feats]
    if len(feats) != 2 or shapes[1] != tuple(-(-side // 2) for side in shapes[0]):
        raise ValueError(
            'the decoder wants two maps, of stride 8 and of stride 16 (out_indices=(2, 4) of the '
            f'encoder), got maps of {shapes}'
        )
    widths = tuple(feat.shape[1] for feat in feats)
    if widths != channels:
        raise ValueError(
            f'the decoder was built for maps of {channels} channels (decoder.in_channels) and the '
            f'encoder gives {widths}: set in_channels={widths}, or another arch of the encoder'
        )
    return feats
