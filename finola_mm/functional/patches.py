"""Convert between images and grids of patches.

Legend: N images of Y x X pixels, patches of p x p pixels, a grid of H x W positions, L of them in
row-major order.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def image_to_patches(images: Tensor, patch_size: int) -> Tensor:
    """Split images (N, 3, Y, X) -> (N, L, 3*p*p), pixels in (channel, row, column) order."""
    return F.pixel_unshuffle(images, patch_size).flatten(2).transpose(1, 2)


def patches_to_image(patches: Tensor, patch_size: int, grid: Sequence[int]) -> Tensor:
    """Invert ``image_to_patches``: (N, L, 3*p*p) on a grid (H, W) -> (N, 3, Y, X)."""
    return F.pixel_shuffle(patches.transpose(1, 2).unflatten(2, grid), patch_size)


def gather_tokens(x: Tensor, index: Tensor) -> Tensor:
    """Select the tokens of x (N, L, D) at the positions ``index`` (N, K) -> (N, K, D)."""
    return x.gather(1, index[:, :, None].expand(-1, -1, x.shape[2]))
