"""Speeds of the one-way wave equations of a FINOLA map.

Paper: "Exploring Invariance in Images through One-way Wave Equations" (arXiv 2310.12976); with
z_x = A n(z) and z_y = B n(z), Q = A B^-1 = V L V^-1 and zeta = V^-1 z,

    d zeta_k / dx = speed_k * d zeta_k / dy    for each channel k of zeta

One detail differs from the paper, the inverse: n(z) has mean zero, so A and B never act on the
vector of ones, and weight decay makes B singular there. Let P be a basis of the vectors of mean
zero. Q (BP) = AP holds exactly for Q = (AP) (BP)^+ on the C-1 dimensions reached by BP, which
leaves C-1 equations.
"""

import torch
from torch import Tensor

from .recurrence import at_least_float32


def wave_speeds(A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """Compute speeds and eigenvectors of the waves of a map unrolled by A (right) and B (down).

    ``pinv(V) @ A @ n == speeds * (pinv(V) @ B @ n)`` holds for every zero-mean n, where ``pinv``
    is ``torch.linalg.pinv``.

    Args:
        A, B: (C, C).

    Returns:
        speeds: (C-1,) complex128, the fastest first, in positions along y per position along x.
        V: (C, C-1) complex128, with unit-norm columns.

    Raises:
        ValueError: the shapes differ, or B has rank below C-1 on zero-mean vectors.
            :func:`zero_mean_condition` measures how close B is to this case.
    """
    if A.shape != B.shape:
        raise ValueError(
            f'A and B must have the same shape, got {tuple(A.shape)} and {tuple(B.shape)}'
        )
    left, values, right = torch.linalg.svd(_on_zero_mean(B))
    c = len(values)
    left, values, right = left[:, : c - 1], values[: c - 1], right[: c - 1].mT
    tolerance = values[0] * max(_resolution(B), c * torch.finfo(torch.float64).eps)
    rank = int((values > tolerance).sum())
    if rank < c - 1:
        raise ValueError(
            f'B must have rank {c - 1} on zero-mean vectors, got {rank}. Train longer, or '
            'with less weight decay on B'
        )
    q = left.mT @ A.double() @ right / values  # (C-1, C-1), Q in the basis `left`
    speeds, vectors = torch.linalg.eig(q)
    order = speeds.abs().argsort(descending=True, stable=True)
    return speeds[order], left.to(vectors.dtype) @ vectors[:, order]


def zero_mean_condition(B: Tensor) -> float:
    """Compute the condition number of B (C, C) on zero-mean vectors, C-1 dimensions.

    It bounds the amplification of relative errors of A and B in :func:`wave_speeds`. It is about
    1e16 or infinite where B is singular there.
    """
    values = torch.linalg.svdvals(_on_zero_mean(B))
    return (values[0] / values[-2]).item()


def _on_zero_mean(matrix):
    """Remove the part along the vector of ones; the singular values are those of BP, and a 0."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise ValueError(f'a matrix must be (C, C) with C at least 2, got {tuple(matrix.shape)}')
    matrix = matrix.double()
    return matrix - matrix.mean(1, keepdim=True)


def _resolution(matrix):
    """Return the machine epsilon of the dtype in which the matrix was learned."""
    return torch.finfo(at_least_float32(matrix).dtype).eps
