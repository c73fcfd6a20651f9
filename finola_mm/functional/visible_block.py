"""Geometry of the visible block: offsets, masks and crops.

Paper: "Image is First-order Norm+Linear Autoregressive", Section 3: one block is visible and
floats around the image randomly.

Legend: N images, a grid of H x W positions, the visible block h x w at offset (row, col),
0 <= row <= H-h, 0 <= col <= W-w. The default grid is 2h x 2w: the block is a quarter of it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def as_offsets(
    offset, block: Sequence[int], n: int | None = None, grid: Sequence[int] | None = None
) -> Tensor:
    """Convert (row, col) or (N, 2) to (N, 2) int64 on the CPU and check that blocks fit the grid.

    Args:
        offset: One pair for all images, or one for each.
        block: (h, w) of the visible block.
        n: Batch size, used to repeat a single pair or to check the number of pairs.
        grid: (H, W) of the map, by default (2h, 2w).

    Raises:
        ValueError: the shape or dtype is invalid, or a block exceeds its grid.
    """
    offsets = torch.as_tensor(offset)
    one_pair = offsets.shape == (2,)
    pairs = offsets.ndim == 2 and offsets.shape[1] == 2 and len(offsets) == (n or len(offsets))
    if offsets.is_floating_point() or not (one_pair or pairs):
        raise ValueError(
            f'offset must be integers, one pair (row, col) or one for each of {n or "N"} images, '
            f'got {offsets.dtype} of shape {tuple(offsets.shape)}'
        )
    offsets = offsets.long().cpu().reshape(-1, 2)
    rows, cols = (a - b for a, b in zip(_grid(block, grid), block, strict=True))
    outside = ((offsets < 0) | (offsets > torch.tensor((rows, cols)))).any(1)
    if outside.any():
        raise ValueError(
            f'the offset of a block of {tuple(block)} must be in rows 0 to {rows} and columns 0 to '
            f'{cols}, got {tuple(offsets[outside][0].tolist())}'
        )
    return offsets.expand(n or 1, 2) if one_pair else offsets


def block_mask(
    offset, block: Sequence[int], n: int = 1, grid: Sequence[int] | None = None
) -> Tensor:
    """Return a boolean mask of the positions outside the visible block.

    Args:
        offset: (row, col) for all images, or an (N, 2) integer tensor.
        block: (h, w) of the visible block.
        n: The batch size when one offset is given.
        grid: (H, W) of the map, by default (2h, 2w).

    Returns:
        BoolTensor (N, H, W) on the CPU; True = masked (predicted), False = visible.
    """
    (h, w), (height, width) = block, _grid(block, grid)
    repeats = None if torch.as_tensor(offset).ndim == 2 else n
    row, col = as_offsets(offset, block, repeats, grid)[:, :, None].unbind(1)  # (N, 1) each
    y, x = torch.arange(height), torch.arange(width)
    visible_y, visible_x = (y >= row) & (y < row + h), (x >= col) & (x < col + w)
    return ~(visible_y[:, :, None] & visible_x[:, None, :])  # (N, H, W)


def masked_positions(mask: Tensor) -> Tensor:
    """Convert a mask to the indices of its masked positions, in row-major order.

    mask (N, H, W), True = masked, with K masked positions in every map -> (N, K) in 0..H*W-1.
    Keep the mask on the CPU: on a GPU, computing K would force a synchronization.

    Raises:
        ValueError: the maps have different numbers of masked positions.
    """
    mask = mask.flatten(1)
    counts = mask.sum(1)
    if (counts != counts[0]).any():
        raise ValueError(
            f'all maps must have the same number of masked positions, got {counts.tolist()}'
        )
    return mask.nonzero()[:, 1].view(len(mask), -1)


def crop_block(images: Tensor, offset, block: Sequence[int], patch_size: int) -> Tensor:
    """Crop the visible block, the encoder's input, from every image.

    images (N, C, H*p, W*p), offset and block (h, w) in grid positions -> (N, C, h*p, w*p), channels
    last in memory.
    """
    grid = tuple(size // patch_size for size in images.shape[2:])
    corners = (patch_size * as_offsets(offset, block, len(images), grid)).tolist()
    height, width = (patch_size * size for size in block)
    blocks = [
        image[:, y : y + height, x : x + width]
        for image, (y, x) in zip(images, corners, strict=True)
    ]
    return torch.stack(blocks).contiguous(memory_format=torch.channels_last)


def _grid(block, grid):
    return tuple(grid or (2 * block[0], 2 * block[1]))
