"""Pure functions of tensors: no state, no dependency but torch."""

from .blockwise import finola_blockwise
from .curvature import gaussian_curvature
from .norm_linear import at_least_float32, channel_norm, norm_linear_step
from .padding import average_pool, clear, coarser, double_size, padding_mask
from .patches import image_to_patches, patches_to_image, take
from .sine_positions import sine_positions
from .unroll import finola
from .visible_block import as_offsets, block_mask, crop_block, masked_positions
from .wave_speeds import mean_free_condition, wave_speeds

__all__ = [
    'average_pool',
    'as_offsets',
    'at_least_float32',
    'block_mask',
    'channel_norm',
    'clear',
    'coarser',
    'crop_block',
    'double_size',
    'finola',
    'finola_blockwise',
    'gaussian_curvature',
    'image_to_patches',
    'masked_positions',
    'mean_free_condition',
    'norm_linear_step',
    'padding_mask',
    'patches_to_image',
    'sine_positions',
    'take',
    'wave_speeds',
]
