"""What FINOLA is compared with: other steps, as a plain loop, and no steps at all.

Paper: "Image is First-order Norm+Linear Autoregressive", Section 4, and for the repeated vector
"Exploring Invariance in Images through One-way Wave Equations" (arXiv 2310.12976). Slow on purpose:
what is fast is ``functional.finola``, for the one step that the papers propose.

Legend: N images, M paths, C channels, H x W positions.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..functional import channel_norm


def unroll(
    step: Callable[[Tensor, str], Tensor],
    q: Tensor,
    size: tuple[int, int],
    origin: tuple[int, int] | None = None,
) -> Tensor:
    """Unroll q over a map by any step, in both orders, averaged, as ``functional.finola`` does.

    step takes vectors (..., C) and which of 'A', 'A_neg', 'B', 'B_neg' leads to their neighbours,
    and returns these, (..., C). q (N, C) or (N, M, C) -> (N, C, H, W); the paths are summed.
    """
    q = q if q.ndim == 3 else q[:, None]  # (N, M, C)
    (h, w), (row, col) = size, origin or (size[0] // 2, size[1] // 2)
    if not (0 <= row < h and 0 <= col < w):
        raise ValueError(f'origin {(row, col)} lies outside the {h} x {w} map')

    def along_x(z: Tensor) -> Tensor:
        return _chain(step, z, ('A_neg', 'A'), w, col)

    def along_y(z: Tensor) -> Tensor:
        return _chain(step, z, ('B_neg', 'B'), h, row)

    x_then_y = along_y(along_x(q))  # (H, W, N, M, C)
    y_then_x = along_x(along_y(q)).transpose(0, 1)  # (H, W, N, M, C)
    return ((x_then_y + y_then_x) / 2).sum(3).permute(2, 3, 0, 1)


def _chain(step, z, names, length, origin):
    """z (..., C) at ``origin`` -> (length, ..., C)."""
    back, forth = [z], [z]
    for _ in range(origin):
        back.append(step(back[-1], names[0]))
    for _ in range(length - 1 - origin):
        forth.append(step(forth[-1], names[1]))
    return torch.stack(back[:0:-1] + forth)


def repeat(q: Tensor, size: tuple[int, int]) -> Tensor:
    """The same vector at every position, (N, C) or (N, M, C) -> (N, C, H, W); paths are summed."""
    q = q if q.ndim == 2 else q.sum(1)
    return q[:, :, None, None].expand(-1, -1, *size)


def nonlinear_step(z: Tensor, weights: Tensor, eps: float = 1e-6) -> Tensor:
    """z + V gelu(U n(z)), a two-layer network in the place of the matrix.

    weights (2, C/2, C) holds U and the transpose of V, together as many numbers as a matrix has.
    """
    hidden = F.gelu(F.linear(channel_norm(z, eps), weights[0]))  # (..., C/2)
    return z + torch.matmul(hidden, weights[1])
