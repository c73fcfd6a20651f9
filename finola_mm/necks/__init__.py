"""FINOLA necks and upsamplers, between encoder and head."""

from .block_finola import BlockFINOLANeck
from .conv_upsampler import ConvUpsampler
from .finola import FINOLANeck
from .patch_upsampler import PatchUpsampler
from .transformer_upsampler import TransformerUpsampler

__all__ = [
    'BlockFINOLANeck',
    'ConvUpsampler',
    'FINOLANeck',
    'PatchUpsampler',
    'TransformerUpsampler',
]
