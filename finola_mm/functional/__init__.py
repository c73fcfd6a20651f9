"""Pure functions of tensors: no state, no dependency but torch."""

from .blockwise import as_offsets, block_mask, finola_blockwise
from .norm_linear import at_least_float32, channel_norm, norm_linear_step
from .patches import crop_block, patch_mean_std, patches_to_image

__all__ = [
    'as_offsets',
    'at_least_float32',
    'block_mask',
    'channel_norm',
    'crop_block',
    'finola_blockwise',
    'norm_linear_step',
    'patch_mean_std',
    'patches_to_image',
]
