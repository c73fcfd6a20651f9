"""The FINOLA recurrence, written as in the paper's equations.

Paper: "Image is First-order Norm+Linear Autoregressive", Eq. 1 and 3, Fig. 4 (arXiv 2305.16319).

    z(x+1, y) = z(x, y) + A n(z(x, y))        z(x-1, y) = z(x, y) + A_neg n(z(x, y))
    z(x, y+1) = z(x, y) + B n(z(x, y))        z(x, y-1) = z(x, y) + B_neg n(z(x, y))

n(z) normalizes the C channels of one position. A position off both axes is reached in two orders, x
first or y first; its value is the mean of both results. The orders differ, so the map satisfies the
equations exactly only on the axes through q (``residuals.py``). One detail differs from the paper:
sigma is sqrt(variance + eps), so that n(z) of a constant vector is finite.

``unroll`` and ``unroll_block`` are the reference implementation. ``fused.py`` and
``fused_blockwise.py`` compute the same result faster, for training; the tests compare the two.

Legend: N images, M paths, C channels, H x W positions, h x w the visible block.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Step = Callable[[Tensor, str], Tensor]  # (z, name of a matrix) -> the neighbour of z


def channel_norm(z: Tensor, eps: float = 1e-6) -> Tensor:
    """Normalize each vector to n(z) = (z - mean) / sqrt(variance + eps), without an affine map.

    z (..., C) -> (..., C), at least float32. The variance is the population variance.
    """
    return F.layer_norm(at_least_float32(z), z.shape[-1:], eps=eps)


def norm_linear_step(z: Tensor, matrix: Tensor, eps: float = 1e-6) -> Tensor:
    """Take one step of Eq. 1: z + matrix @ n(z), for row vectors z (..., C) and a (C, C) matrix.

    Under autocast the product runs in the autocast dtype. The statistics and the sum stay in
    float32: a map is a sum of many steps, and bfloat16 would round each of them to three digits.
    """
    z = at_least_float32(z)
    return z + F.linear(channel_norm(z, eps), matrix.to(z.dtype))


def unroll(
    step: Step, q: Tensor, size: tuple[int, int], origin: tuple[int, int] | None = None
) -> Tensor:
    """Unroll q over a map with any step, in both orders, and average the two (Eq. 3).

    Args:
        step: Takes vectors (..., C) and the name of a direction, 'A' (right), 'A_neg' (left),
            'B' (down) or 'B_neg' (up), and returns their neighbours (..., C).
        q: (N, C), or (N, M, C) for M paths, whose maps are summed.
        size: (H, W) of the map.
        origin: (row, col) of q, by default (H//2, W//2).

    Returns:
        (N, C, H, W).

    Raises:
        ValueError: the origin lies outside the map.
    """
    x_then_y, y_then_x = unroll_orders(step, q, size, origin)
    return ((x_then_y + y_then_x) / 2).sum(1)


def unroll_orders(
    step: Step, q: Tensor, size: tuple[int, int], origin: tuple[int, int] | None = None
) -> tuple[Tensor, Tensor]:
    """Unroll q over a map, x first and y first; the arguments are those of :func:`unroll`.

    Returns:
        Two maps (N, M, C, H, W), with M = 1 for q (N, C). They are equal on the axes through q.
    """
    q = q if q.ndim == 3 else q[:, None]  # (N, M, C)
    (height, width), (row, col) = size, origin or (size[0] // 2, size[1] // 2)
    if not (0 <= row < height and 0 <= col < width):
        raise ValueError(f'origin must lie inside the {height} x {width} map, got {(row, col)}')

    def along(z: Tensor, forward: str, backward: str, start: int, length: int) -> Tensor:
        """Extend z (..., C), at position ``start`` of a new axis -> (length, ..., C)."""
        line = {start: z}
        for i in range(start + 1, length):
            line[i] = step(line[i - 1], forward)  # z(i) = z(i-1) + A n(z(i-1))
        for i in range(start - 1, -1, -1):
            line[i] = step(line[i + 1], backward)  # z(i) = z(i+1) + A_neg n(z(i+1))
        return torch.stack([line[i] for i in range(length)])

    def along_x(z: Tensor) -> Tensor:
        return along(z, 'A', 'A_neg', col, width)

    def along_y(z: Tensor) -> Tensor:
        return along(z, 'B', 'B_neg', row, height)

    x_then_y = along_y(along_x(q))  # (H, W, N, M, C)
    y_then_x = along_x(along_y(q)).transpose(0, 1)  # (H, W, N, M, C)
    return x_then_y.permute(2, 3, 4, 0, 1), y_then_x.permute(2, 3, 4, 0, 1)


def unroll_block(step: Step, feat: Tensor, offset: tuple[int, int], steps: str = 'block') -> Tensor:
    """Unroll one visible block over its map, position by position (Eq. 3 on the grid of Fig. 4).

    The readable reference; models use ``finola_blockwise``, which gives the same map.

    Args:
        step: As in :func:`unroll`.
        feat: (C, h, w), the features of the visible block of one image.
        offset: (row, col) of the block in the map.
        steps: 'block' takes one step along each axis from a source to a masked position, however
            far it is; 'element' takes one step for each position in between.

    Returns:
        (C, 2h, 2w). Visible positions hold ``feat``.
    """
    _, h, w = feat.shape

    def source(place: int, start: int, length: int) -> tuple[int, int, int]:
        """Return (position inside the block, direction, distance) for a map position."""
        if place < start:  # masked, before the block: its source is at place + start
            return place, -1, start
        if place >= start + length:  # masked, after the block: its source is at place - distance
            return place - length, +1, length - start
        return place - start, 0, 0  # visible

    def walk(z: Tensor, name: str, distance: int) -> Tensor:
        for _ in range(min(distance, 1) if steps == 'block' else distance):
            z = step(z, name)
        return z

    rows = []
    for y in range(2 * h):
        for x in range(2 * w):
            row, down, v = source(y, offset[0], h)
            col, right, u = source(x, offset[1], w)
            z = feat[:, row, col]
            phi, psi = ('A' if right > 0 else 'A_neg'), ('B' if down > 0 else 'B_neg')
            x_then_y = walk(walk(z, phi, u), psi, v)
            y_then_x = walk(walk(z, psi, v), phi, u)
            rows.append((x_then_y + y_then_x) / 2)
    return torch.stack(rows, 1).view(-1, 2 * h, 2 * w)


def at_least_float32(z: Tensor) -> Tensor:
    """Convert float16 and bfloat16 to float32; wider dtypes are unchanged."""
    return z.to(torch.promote_types(z.dtype, torch.float32))
