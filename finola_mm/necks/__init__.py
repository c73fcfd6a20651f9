"""Between encoder and head: FINOLA necks and upsamplers."""

from .block_finola import BlockFINOLANeck
from .transformer_upsampler import TransformerUpsampler

__all__ = ['BlockFINOLANeck', 'TransformerUpsampler']
