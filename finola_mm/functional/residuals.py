"""Residuals of the equations that a FINOLA map is said to satisfy.

Papers: Eq. 1 of arXiv 2305.16319, and the one-way wave equations of arXiv 2310.12976. A map is the
mean of two orders of the steps, x first and y first. On the axes through q both orders are the same
steps, and Eq. 1 holds exactly. Off the axes it holds as far as the orders agree.

All residuals are relative: 0 where an equation holds. A control replaces one side of an equation by
that of another image.

Legend: N images, C channels, h x w positions of a quadrant, outward from q at [0, 0].
"""

import torch
from torch import Tensor

from .recurrence import channel_norm


def quadrant(z: Tensor, a: str, b: str, origin: tuple[int, int]) -> Tensor:
    """Return the positions of a quadrant, outward from q: (..., H, W) -> (..., h, w).

    Args:
        z: A map.
        a: 'A' for the columns from q to the right, 'A_neg' for those to the left.
        b: 'B' for the rows from q downward, 'B_neg' for those upward.
        origin: (row, col) of q.
    """
    row, col = origin
    z = z[..., row:, :] if b == 'B' else z[..., : row + 1, :].flip(-2)
    return z[..., col:] if a == 'A' else z[..., : col + 1].flip(-1)


def step_residual(
    z: Tensor, matrix: Tensor, dim: int, *, start: Tensor | None = None, eps: float = 1e-6
) -> Tensor:
    """Compute how far the steps of a map violate Eq. 1: |dz - matrix n(z)| / |dz|.

    dz is the step from z to the next position along ``dim``.

    Args:
        z: (N, C, h, w), a quadrant.
        matrix: (C, C), that of the outward steps along ``dim``.
        dim: -1 for x, -2 for y.
        start: The map that is normalized, by default z. The map of another image is the control.
        eps: Added to the variance in the norm.

    Returns:
        (N, h, w - 1) for x, (N, h - 1, w) for y.
    """
    dz = z.diff(dim=dim)
    start = z if start is None else start
    start = start.narrow(dim, 0, start.shape[dim] - 1)
    expected = channel_norm(start.movedim(1, -1), eps) @ matrix.mT  # (N, h, w, C)
    return (dz - expected.movedim(-1, 1)).norm(dim=1) / dz.norm(dim=1)


def order_difference(x_then_y: Tensor, y_then_x: Tensor) -> Tensor:
    """Compare the two orders: their difference, relative to their mean distance from q.

    Args:
        x_then_y, y_then_x: (N, C, h, w), the maps of both orders minus q. If the second is that of
            another image, the result is the control.

    Returns:
        (N, h, w), NaN at q.
    """
    distance = (x_then_y.norm(dim=1) + y_then_x.norm(dim=1)) / 2
    return (x_then_y - y_then_x).norm(dim=1) / distance


def wave_residual(z: Tensor, speeds: Tensor, V: Tensor, *, other: Tensor | None = None) -> Tensor:
    """Compute how far each wave violates its equation d zeta / dx = speed * d zeta / dy.

    The residual is |left - right| / (|left| + |right|), at most 1, with differences to the next
    position for derivatives.

    Args:
        z: (N, C, h, w), a quadrant.
        speeds, V: (K,) and (C, K), those of the quadrant, from ``wave_speeds``.
        other: The map of the right side, by default z. The map of another image is the control.

    Returns:
        (N, K, h - 1, w - 1).
    """
    h, w = (length - 1 for length in z.shape[-2:])
    waves = torch.linalg.pinv(V)  # (K, C)
    dz_x = z.diff(dim=-1)[..., :h, :].to(V.dtype)  # (N, C, h - 1, w - 1)
    dz_y = (z if other is None else other).diff(dim=-2)[..., :w].to(V.dtype)
    left = torch.einsum('kc,nchw->nkhw', waves, dz_x)
    right = torch.einsum('kc,nchw->nkhw', speeds[:, None] * waves, dz_y)
    return (left - right).abs() / (left.abs() + right.abs())
