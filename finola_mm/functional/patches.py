"""Images and the grid of patches that a feature map of stride 16 stands for.

Legend: N images of H x W pixels, patches of p x p pixels, a grid of H/p x W/p positions; L of
them in a row, in the order in which one reads.
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


def image_to_patches(images: Tensor, patch_size: int) -> Tensor:
    """(N, 3, H, W) -> (N, L, 3*p*p), pixels of a patch in (channel, row, column) order."""
    return F.pixel_unshuffle(images, patch_size).flatten(2).transpose(1, 2)


def patches_to_image(patches: Tensor, patch_size: int, grid: tuple[int, int]) -> Tensor:
    """(N, L, 3*p*p) on a grid (H/p, W/p) -> (N, 3, H, W), undoing :func:`image_to_patches`."""
    return F.pixel_shuffle(patches.transpose(1, 2).unflatten(2, grid), patch_size)


def take(x: Tensor, index: Tensor) -> Tensor:
    """The vectors of x (N, L, D) at the positions ``index`` (N, K) -> (N, K, D)."""
    return x.gather(1, index[:, :, None].expand(-1, -1, x.shape[2]))
