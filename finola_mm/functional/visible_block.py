"""Where the visible block of a masked image lies, and what is masked around it.

Paper: "Image is First-order Norm+Linear Autoregressive", Section 3: one block is visible and
floats around the image randomly.

Legend: N images, a grid of H x W positions, the visible block h x w at offset (row, col),
0 <= row <= H-h, 0 <= col <= W-w. Where no grid is given it is 2h x 2w: the block is a quarter.
"""

import torch
from torch import Tensor


def as_offsets(
    offset, block: tuple[int, int], n: int | None = None, grid: tuple[int, int] | None = None
) -> Tensor:
    """(row, col) or (N, 2) -> (N, 2) int64 on the CPU, checked: the block lies on its grid.

    n: the batch size: how often one pair is repeated, how many pairs are expected.
    """
    offsets = torch.as_tensor(offset)
    one_pair = offsets.shape == (2,)
    pairs = offsets.ndim == 2 and offsets.shape[1] == 2 and len(offsets) == (n or len(offsets))
    if offsets.is_floating_point() or not (one_pair or pairs):
        raise ValueError(
            f'offset has shape {tuple(offsets.shape)} and type {offsets.dtype}; expected '
            f'integers: one pair (row, col) or a pair for each of {n or "N"} images'
        )
    offsets = offsets.long().cpu().reshape(-1, 2)
    rows, cols = (a - b for a, b in zip(_grid(block, grid), block, strict=True))
    outside = ((offsets < 0) | (offsets > torch.tensor((rows, cols)))).any(1)
    if outside.any():
        raise ValueError(
            f'offset {tuple(offsets[outside][0].tolist())} puts a block of {tuple(block)} '
            f'outside its map: rows go from 0 to {rows}, columns from 0 to {cols}'
        )
    return offsets.expand(n or 1, 2) if one_pair else offsets


def block_mask(
    offset, block: tuple[int, int], n: int = 1, grid: tuple[int, int] | None = None
) -> Tensor:
    """Mark the positions that have to be predicted.

    Args:
        offset: (row, col) for all images, or an (N, 2) integer tensor.
        block: (h, w) of the visible block.
        n: the batch size when one offset is given.
        grid: (H, W) of the map, by default (2h, 2w).

    Returns:
        BoolTensor (N, H, W) on the CPU; True = masked (predicted), False = visible.
    """
    (h, w), (height, width) = block, _grid(block, grid)
    n = None if torch.as_tensor(offset).ndim == 2 else n
    row, col = as_offsets(offset, block, n, grid)[:, :, None].unbind(1)  # (N, 1) each
    y, x = torch.arange(height), torch.arange(width)
    visible_y, visible_x = (y >= row) & (y < row + h), (x >= col) & (x < col + w)
    return ~(visible_y[:, :, None] & visible_x[:, None, :])  # (N, H, W)


def masked_positions(mask: Tensor) -> Tensor:
    """The masked positions of each map, row by row as one reads: ``block_mask`` as indices.

    mask (N, H, W), True = masked -> (N, K) in 0..H*W-1, for the K that are masked in every map.
    Keep the mask on the CPU: a device would be waited for, to know K.
    """
    mask = mask.flatten(1)
    counts = mask.sum(1)
    if (counts != counts[0]).any():
        raise ValueError(
            f'the maps have {counts.tolist()} masked positions; expected as many in each'
        )
    return mask.nonzero()[:, 1].view(len(mask), -1)


def crop_block(images: Tensor, offset, block: tuple[int, int], patch_size: int) -> Tensor:
    """Cut the visible block out of every image: all that the encoder may see.

    images (N, C, H*p, W*p), offset and block (h, w) in grid positions -> (N, C, h*p, w*p), in
    channels_last as the convolutions like it.
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
