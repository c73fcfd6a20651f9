"""Block-wise FINOLA, fused for training: the parallel form of ``recurrence.unroll_block``.

Paper: "Image is First-order Norm+Linear Autoregressive", Section 3, Fig. 4 right; Eq. 3. Fig. 4
draws the partition for one position of the floating block; here it is derived for every position.

The map is 2h x 2w. The visible block h x w lies at offset (row, col), 0 <= row <= h,
0 <= col <= w. Column j of the block predicts exactly one masked column of the map, and likewise for
rows with B_neg and B:

    j <  col:   map column j,       by A_neg, ``col`` positions to the left of column j
    j >= col:   map column j + w,   by A, ``w - col`` positions to its right

For w = 8 and col = 3 the block covers map columns 3 to 10. Its columns 0, 1, 2 predict map columns
0, 1, 2; its columns 3 to 7 predict map columns 11 to 15.

The map thus consists of four tiles of h x w positions, each in the block's own coordinates: the
visible block (0), the tile beside it (1), the tile above or below it (2) and the diagonal one (3).
Every position that is computed is used in the map. The positions of all images are sorted by the
quadrant into which they are unrolled,

    up left, up right, down right, down left

so that positions which share a matrix are adjacent. In this cyclic order "up" is the first two
quadrants, "right" the middle two. A step is then one product per run of rows, and nothing has to be
masked afterwards. (Only ``steps='element'`` computes more: positions that have reached their target
continue to be stepped with the others.)

Legend: N images, C channels, h x w the visible block, P = N*h*w positions of all blocks.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from .compat import not_compiled
from .padding import copy_to_device
from .recurrence import at_least_float32, channel_norm
from .visible_block import as_offsets


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
        offset: Position of the block in the map, (row, col) for all images or an (N, 2) integer
            tensor; 0 <= row <= h and 0 <= col <= w. Keep it on the CPU: the sizes of the products
            depend on its values, so a tensor on a GPU forces a synchronization.
        A, A_neg, B, B_neg: (C, C), the steps right, left, down and up: z + A @ n(z).
        steps: 'block' takes one step along each axis from a source to a masked position, a literal
            reading of the paper's "u and v represent block offsets" (distances in blocks);
            'element' takes one step for each position in between.
        eps: Added to the variance.

    Returns:
        (N, C, 2h, 2w), at least float32. Visible positions hold ``feat`` unchanged. Positions
        masked in both axes are the mean of the two orders (Eq. 3 and the line below it).

    Raises:
        ValueError: a shape, an offset or ``steps`` is invalid.
    """
    _check_matrices(feat, A, A_neg, B, B_neg)
    n, c, h, w = feat.shape
    if steps not in ('block', 'element'):
        raise ValueError(f"steps must be 'block' or 'element', got {steps!r}")
    offsets, (ul, ur, dr, dl) = _quadrant_sizes(offset, n, h, w)
    row, col = copy_to_device(offsets, feat.device).unbind(1)  # (N,)
    order, distance_y, distance_x = _sort_by_quadrant(row, col, h, w)  # (P,), (P, 1), (P, 1)
    max_y, max_x = (1, 1) if steps == 'block' else (h, w)
    vertical = partial(_take_steps, (B_neg, B), (ul + ur, dr + dl), distance_y, max_y, eps)
    horizontal = partial(_take_steps, (A_neg, A, A_neg), (ul, ur + dr, dl), distance_x, max_x, eps)

    visible = at_least_float32(feat).permute(0, 2, 3, 1).reshape(-1, c)  # (P, C)
    visible = Permute.apply(visible, order)
    beside, stacked = horizontal(visible), vertical(visible)  # (P, C) each
    diagonal = (vertical(beside) + horizontal(stacked)) / 2
    tiles = torch.cat((visible, beside, stacked, diagonal))  # (4P, C), tiles 0 to 3
    z = Permute.apply(tiles, _tiling(row, col, h, w, _invert(order)))
    return z.view(n, 2 * h, 2 * w, c).permute(0, 3, 1, 2)


@not_compiled  # values on the CPU decide the sizes of the products
def _quadrant_sizes(offset, n, h, w) -> tuple[Tensor, list[int]]:
    """Return the offsets (N, 2) and count the positions that unroll in each direction.

    The directions are up left, up right, down right and down left.
    """
    offsets = as_offsets(offset, (h, w), n)
    up, left = offsets.unbind(1)  # rows that unroll up, columns that unroll to the left
    down, right = h - up, w - left
    sizes = torch.stack((up * left, up * right, down * right, down * left))
    return offsets, sizes.sum(1).tolist()


def _sort_by_quadrant(row, col, h, w):
    """Sort the P positions by quadrant; return the order and the distances on both axes.

    row, col (N,) -> order (P,), and the sorted distances to the predicted positions, in rows and in
    columns, (P, 1) each.
    """
    up, distance_y = (t[:, :, None] for t in _direction(row, h))  # (N, h, 1)
    left, distance_x = (t[:, None, :] for t in _direction(col, w))  # (N, 1, w)
    left = left.byte()  # on a GPU, bytes are sorted by fewer kernels than int64
    quadrant = torch.where(up, 1 - left, 2 + left)  # (N, h, w) in 0..3
    order = quadrant.flatten().argsort(stable=True)
    distances = (d.expand_as(quadrant).flatten()[order, None] for d in (distance_y, distance_x))
    return order, *distances


def _direction(start, size):
    """Return the direction and distance of each row (or column) of the block.

    start (N,) -> (N, size) with True = up (left), and (N, size) in positions.
    """
    start = start[:, None]
    backward = torch.arange(size, device=start.device) < start
    return backward, torch.where(backward, start, size - start)


def _take_steps(matrices, sizes, distance, max_steps, eps, z):
    """Advance z (P, C): the first ``sizes[0]`` rows by ``matrices[0]``, the next ``sizes[1]`` by
    ``matrices[1]``, and so on.

    Row i takes min(distance[i], max_steps) steps, distance (P, 1); every row takes at least one.
    """
    for done in range(max_steps):
        runs = channel_norm(z, eps).split(sizes)
        # Under autocast the products run in its dtype, statistics and sum in float32.
        steps = [F.linear(n, m.to(n.dtype)) for n, m in zip(runs, matrices, strict=True)]
        stepped = z + torch.cat(steps)
        z = torch.where(distance > done, stepped, z) if done else stepped
    return z


def _tiling(row, col, h, w, sorted_row):
    """Return, for each map position, its row in the four stacked tiles (4P, C), as (4P,).

    sorted_row (P,): the row of each position of the features within a sorted tile.
    """
    source_y, masked_y = _sources(row, h)  # (N, 2h)
    source_x, masked_x = _sources(col, w)  # (N, 2w)
    tile = 2 * masked_y.long()[:, :, None] + masked_x.long()[:, None, :]  # (N, 2h, 2w) in 0..3
    image = torch.arange(len(row), device=row.device)[:, None, None]
    position = (image * h + source_y[:, :, None]) * w + source_x[:, None, :]  # (N, 2h, 2w)
    return (tile * len(sorted_row) + sorted_row[position]).flatten()


class Permute(torch.autograd.Function):
    """Permute rows: x (P, C) -> x[order].

    The gradient is gathered in the inverse order. General indexing would need additions and, on a
    GPU, a sort.
    """

    @staticmethod
    def forward(ctx, x, order):
        ctx.save_for_backward(order)
        return x[order]

    @staticmethod
    def backward(ctx, grad):
        (order,) = ctx.saved_tensors
        return Permute.apply(grad, _invert(order)), None


def _invert(order):
    """Return the inverse of a permutation, (P,) -> (P,)."""
    places = torch.arange(len(order), device=order.device)
    return torch.empty_like(order).scatter_(0, order, places)


def _sources(start, size):
    """Return the block position that each of 2*size map positions shows, and whether it is masked.

    start (N,) -> (N, 2*size) in [0, size), and (N, 2*size) with True = masked (predicted).
    """
    x = torch.arange(2 * size, device=start.device)
    start = start[:, None]
    before, after = x < start, x >= start + size
    source = torch.where(before, x, torch.where(after, x - size, x - start))
    return source, before | after


def _check_matrices(feat, *matrices):
    if feat.ndim != 4:
        raise ValueError(f'feat must be (N, C, h, w), got {tuple(feat.shape)}')
    c = feat.shape[1]
    for name, matrix in zip(('A', 'A_neg', 'B', 'B_neg'), matrices, strict=True):
        if matrix.shape != (c, c):
            raise ValueError(
                f'{name} must be ({c}, {c}) for features of {c} channels, got {tuple(matrix.shape)}'
            )
