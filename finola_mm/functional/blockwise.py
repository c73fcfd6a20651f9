"""Block-wise FINOLA: one visible block unrolls over a map of twice its height and width.

Paper: "Image is First-order Norm+Linear Autoregressive", Section 3, Fig. 4 right; Eq. 3.
The partition that Fig. 4 draws is worked out here for every place of the floating block.

The map is 2h x 2w, the visible block h x w lies at offset (row, col), 0 <= row <= h,
0 <= col <= w. The partition's column boundary is 2*col: what is masked left of the block is
predicted from the block's columns [0, col), what is masked right of it from [col, w). So each
column of the block is the source of exactly one masked column,

    block column j   <   col   ->   map column j        one block to the left,  A_neg
    block column j   >=  col   ->   map column j + w    one block to the right, A

and likewise for rows with B_neg and B. Hence the map is tiled by four h x w blocks, each in
the block's own coordinates: the visible one, the one beside it, the one above or below it and
the diagonal one. No position is computed that the map does not show; but each is stepped by both
matrices of its axis and the right one is chosen, twice the products that are needed.

Legend: N images, C channels, h x w the visible block, all maps inside are (N, h, w, C).
"""

from functools import partial

import torch
from torch import Tensor

from .norm_linear import at_least_float32, norm_linear_step


def finola_blockwise(
    feat: Tensor,
    offset,
    A: Tensor,
    A_neg: Tensor,
    B: Tensor,
    B_neg: Tensor,
    steps: str = 'block',
    eps: float = 1e-6,
) -> Tensor:
    """Predict a whole map from the features of its visible block.

    Args:
        feat: (N, C, h, w), the features of the visible block.
        offset: where it lies in the map, (row, col) for all images or an (N, 2) integer tensor;
            0 <= row <= h and 0 <= col <= w. Keep it on the CPU: then it is checked without a
            wait for the device.
        A, A_neg, B, B_neg: (C, C), the steps right, left, down and up: z + A @ n(z).
        steps: 'block' takes one step per block offset, the paper's "u and v represent block
            offsets" read literally; 'element' iterates the step once per feature position
            between a masked position and its source.
        eps: added to the variance.

    Returns:
        (N, C, 2h, 2w) in float32 at least. Visible positions hold ``feat`` unchanged. Positions
        masked in both axes are the mean of the two orders (Eq. 3 and the line below it).

    Raises:
        ValueError: for shapes, offsets or ``steps`` other than these.
    """
    _check_matrices(feat, A, A_neg, B, B_neg)
    n, _, h, w = feat.shape
    if steps not in ('block', 'element'):
        raise ValueError(f"steps is {steps!r}; expected 'block' or 'element'")
    row, col = as_offsets(offset, (h, w), n).to(feat.device, non_blocking=True).unbind(1)  # (N,)
    up, rows = (t[:, :, None, None] for t in _direction(row, h))  # (N, h, 1, 1)
    left, cols = (t[:, None, :, None] for t in _direction(col, w))  # (N, 1, w, 1)
    if steps == 'block':
        rows = cols = None
    vertical = partial(_unroll, up, B_neg, B, eps, rows)  # one block up or down
    horizontal = partial(_unroll, left, A_neg, A, eps, cols)  # one block to the left or right

    visible = at_least_float32(feat).permute(0, 2, 3, 1)  # (N, h, w, C)
    beside, stacked = horizontal(visible), vertical(visible)
    diagonal = (vertical(beside) + horizontal(stacked)) / 2
    return _tile(visible, beside, stacked, diagonal, row, col).permute(0, 3, 1, 2)


def block_mask(offset, block: tuple[int, int], n: int = 1) -> Tensor:
    """Mark the positions that block-wise FINOLA has to predict.

    Args:
        offset: (row, col) for all images, or an (N, 2) integer tensor.
        block: (h, w) of the visible block.
        n: the batch size when one offset is given.

    Returns:
        BoolTensor (N, 2h, 2w); True = masked (predicted), False = visible.
    """
    h, w = block
    n = None if torch.as_tensor(offset).ndim == 2 else n
    row, col = as_offsets(offset, block, n)[:, :, None].unbind(1)  # (N, 1) each
    y, x = torch.arange(2 * h, device=row.device), torch.arange(2 * w, device=row.device)
    visible_y, visible_x = (y >= row) & (y < row + h), (x >= col) & (x < col + w)
    return ~(visible_y[:, :, None] & visible_x[:, None, :])  # (N, 2h, 2w)


def as_offsets(offset, block: tuple[int, int], n: int | None = None) -> Tensor:
    """(row, col) or (N, 2) -> (N, 2) int64, checked against 0 <= offset <= block.

    n: the batch size: how often one pair is repeated, how many pairs are expected.
    A tensor on a device is taken as it is: to look at its values would wait for the device.
    """
    offsets = torch.as_tensor(offset)
    one_pair = offsets.shape == (2,)
    pairs = offsets.ndim == 2 and offsets.shape[1] == 2 and len(offsets) == (n or len(offsets))
    if offsets.is_floating_point() or not (one_pair or pairs):
        raise ValueError(
            f'offset has shape {tuple(offsets.shape)} and type {offsets.dtype}; expected '
            f'integers: one pair (row, col) or a pair for each of {n or "N"} images'
        )
    offsets = offsets.long().reshape(-1, 2)
    if offsets.device.type == 'cpu':
        outside = ((offsets < 0) | (offsets > torch.tensor(block))).any(1)
        if outside.any():
            raise ValueError(
                f'offset {tuple(offsets[outside][0].tolist())} puts a block of {tuple(block)} '
                f'outside its map: rows go from 0 to {block[0]}, columns from 0 to {block[1]}'
            )
    return offsets.expand(n or 1, 2) if one_pair else offsets


def _direction(start, size):
    """For each row (or column) of the block: True = it unrolls up (left), and how many positions.

    start (N,) -> two of (N, size).
    """
    start = start[:, None]
    backward = torch.arange(size, device=start.device) < start
    return backward, torch.where(backward, start, size - start)


def _unroll(backward, matrix_neg, matrix, eps, times, z):
    """Step z (N, h, w, C) by ``matrix_neg`` where ``backward``, else by ``matrix``.

    times: None for one step, else how often each position is stepped.
    """

    def step(z):
        return torch.where(
            backward, norm_linear_step(z, matrix_neg, eps), norm_linear_step(z, matrix, eps)
        )

    if times is None:
        return step(z)
    for done in range(times[0].numel()):  # at most one step for each row (column) of the block
        z = torch.where(times > done, step(z), z)
    return z


def _tile(visible, beside, stacked, diagonal, row, col):
    """Lay four blocks (N, h, w, C) out as the map (N, 2h, 2w, C) around offset (row, col)."""
    n, h, w, c = visible.shape
    source_y, masked_y = _sources(row, h)  # (N, 2h)
    source_x, masked_x = _sources(col, w)  # (N, 2w)
    block = 2 * masked_y.long()[:, :, None] + masked_x.long()[:, None, :]  # (N, 2h, 2w) in 0..3
    image = torch.arange(n, device=row.device)[:, None, None]
    index = ((block * n + image) * h + source_y[:, :, None]) * w + source_x[:, None, :]
    blocks = torch.stack((visible, beside, stacked, diagonal)).view(-1, c)  # (4*N*h*w, C)
    return blocks[index.flatten()].view(n, 2 * h, 2 * w, c)


def _sources(start, size):
    """For each of 2*size map positions: which block position it shows, and whether masked.

    start (N,) -> (N, 2*size) in [0, size), and (N, 2*size) with True = masked (predicted).
    """
    x = torch.arange(2 * size, device=start.device)
    start = start[:, None]
    before, after = x < start, x >= start + size
    source = torch.where(before, x, torch.where(after, x - size, x - start))
    return source, before | after


def _check_matrices(feat, *matrices):
    if feat.ndim != 4:
        raise ValueError(f'feat has shape {tuple(feat.shape)}; expected (N, C, h, w)')
    c = feat.shape[1]
    for name, matrix in zip(('A', 'A_neg', 'B', 'B_neg'), matrices, strict=True):
        if matrix.shape != (c, c):
            raise ValueError(
                f'{name} has shape {tuple(matrix.shape)}; '
                f'features of {c} channels need ({c}, {c})'
            )
