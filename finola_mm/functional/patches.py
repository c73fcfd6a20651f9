"""Images and the grid of patches that a feature map of stride 16 stands for.

Legend: N images of H x W pixels, patches of p x p pixels, a grid of H/p x W/p positions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .blockwise import as_offsets


def crop_block(images: Tensor, offset, block: tuple[int, int], patch_size: int) -> Tensor:
    """Cut the visible block out of every image: all that the encoder may see.

    images (N, 3, H, W), offset as in :func:`finola_blockwise` in grid positions, block (h, w) in
    grid positions -> (N, 3, h*p, w*p), in channels_last as the convolutions like it.
    """
    height, width = (patch_size * size for size in block)
    corners = (patch_size * as_offsets(offset, block, len(images))).tolist()
    blocks = [
        image[:, y : y + height, x : x + width]
        for image, (y, x) in zip(images, corners, strict=True)
    ]
    return torch.stack(blocks).contiguous(memory_format=torch.channels_last)


def patches_to_image(patches: Tensor, patch_size: int) -> Tensor:
    """(N, H/p, W/p, 3*p*p) -> (N, 3, H, W), pixels of a patch in (channel, row, column) order."""
    return F.pixel_shuffle(patches.permute(0, 3, 1, 2), patch_size)


def patch_mean_std(images: Tensor, patch_size: int, eps: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each patch over its 3*p*p values, repeated over its pixels.

    As MAE normalises its target (arXiv 2111.06377, Section 3; unbiased variance as in its
    code). images (N, 3, H, W) -> two of (N, 1, H, W).
    """
    patches = F.pixel_unshuffle(images, patch_size)  # (N, 3*p*p, H/p, W/p)
    var, mean = torch.var_mean(patches, dim=1, keepdim=True)  # (N, 1, H/p, W/p)
    return (
        F.interpolate(mean, scale_factor=patch_size, mode='nearest'),
        F.interpolate((var + eps).sqrt(), scale_factor=patch_size, mode='nearest'),
    )
