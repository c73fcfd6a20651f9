"""The one-way wave equations that a FINOLA map obeys, and their speeds.

Paper: "Exploring Invariance in Images through One-way Wave Equations" (arXiv 2310.12976); with
z_x = A n(z) and z_y = B n(z), Q = A B^-1 = V L V^-1 and zeta = V^-1 z,

    d zeta_k / dx = speed_k * d zeta_k / dy    for each channel k of zeta

We differ in the inverse: n(z) has mean zero, so A and B never act on the vector of ones, and weight
decay makes B singular there. P is a basis of all vectors of mean zero; Q (BP) = AP holds exactly
for Q = (AP) (BP)^+, seen in the C-1 dimensions that BP reaches. C-1 equations are left.
"""

import torch
from torch import Tensor

from .recurrence import at_least_float32


def wave_speeds(A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """Speeds and directions of the waves of a map that unrolls by A (right) and B (down).

    A, B (C, C) -> speeds (C-1,), the fastest first, in positions along y for one along x, complex
    in general, and V (C, C-1) with columns of length 1. In code V^-1 is ``torch.linalg.pinv(V)``
    (C-1, C), and ``pinv(V) @ A @ n == speeds * (pinv(V) @ B @ n)`` for every n of mean zero.
    Both are complex128: it is computed in float64.

    Raises:
        ValueError: for matrices of other shapes, and for a B of rank below C-1 on the vectors of
            mean zero. How near to that it is, :func:`mean_free_condition` says.
    """
    if A.shape != B.shape:
        raise ValueError(f'A has shape {tuple(A.shape)} and B {tuple(B.shape)}; expected the same')
    left, values, right = torch.linalg.svd(_on_mean_free(B))
    c = len(values)
    left, values, right = left[:, : c - 1], values[: c - 1], right[: c - 1].mT
    tolerance = values[0] * max(_resolution(B), c * torch.finfo(torch.float64).eps)
    rank = int((values > tolerance).sum())
    if rank < c - 1:
        raise ValueError(
            f'B has rank {rank} on the vectors of mean zero; the {c - 1} speeds need {c - 1}. '
            'Train longer, or with less weight decay on B'
        )
    q = left.mT @ A.double() @ right / values  # (C-1, C-1), Q in the basis `left`
    speeds, vectors = torch.linalg.eig(q)
    order = speeds.abs().argsort(descending=True, stable=True)
    return speeds[order], left.to(vectors.dtype) @ vectors[:, order]


def mean_free_condition(B: Tensor) -> float:
    """The condition number of B (C, C) on the C-1 dimensions of the vectors of mean zero.

    The speeds of :func:`wave_speeds` are uncertain by about so many times the relative error of A
    and B. About 1e16 or infinite where B is singular there.
    """
    values = torch.linalg.svdvals(_on_mean_free(B))
    return (values[0] / values[-2]).item()


def _on_mean_free(matrix):
    """The matrix without its part on the vector of ones: the singular values of BP, and a 0."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise ValueError(
            f'a matrix has shape {tuple(matrix.shape)}; expected (C, C) with C at least 2'
        )
    matrix = matrix.double()
    return matrix - matrix.mean(1, keepdim=True)


def _resolution(matrix):
    """The relative step of the type in which the matrix was learned: rounding hides less."""
    return torch.finfo(at_least_float32(matrix).dtype).eps
