"""Pure, stateless functions of tensors that depend only on torch."""

from .curvature import gaussian_curvature
from .fused import finola
from .fused_blockwise import finola_blockwise
from .fused_origins import unroll_from_origins
from .padding import (
    copy_to_device,
    downsample_mask,
    make_padding_mask,
    masked_avg_pool,
    upsample_2x,
    zero_padding,
)
from .patches import gather_tokens, image_to_patches, patches_to_image
from .plane_waves import plane_wave_basis, plane_waves
from .recurrence import (
    at_least_float32,
    channel_norm,
    norm_linear_step,
    unroll,
    unroll_block,
    unroll_orders,
)
from .residuals import order_difference, quadrant, step_residual, wave_residual
from .sine_positions import sine_positions
from .visible_block import as_offsets, block_mask, crop_block, masked_positions
from .wave_speeds import QUADRANTS, wave_speeds, zero_mean_condition

__all__ = [
    'QUADRANTS',
    'as_offsets',
    'at_least_float32',
    'block_mask',
    'channel_norm',
    'copy_to_device',
    'crop_block',
    'downsample_mask',
    'finola',
    'finola_blockwise',
    'gather_tokens',
    'gaussian_curvature',
    'image_to_patches',
    'make_padding_mask',
    'masked_avg_pool',
    'masked_positions',
    'zero_mean_condition',
    'norm_linear_step',
    'order_difference',
    'patches_to_image',
    'plane_wave_basis',
    'plane_waves',
    'quadrant',
    'sine_positions',
    'step_residual',
    'unroll',
    'unroll_block',
    'unroll_from_origins',
    'unroll_orders',
    'upsample_2x',
    'wave_residual',
    'wave_speeds',
    'zero_padding',
]
