"""Matrices whose FINOLA map is a sum of plane waves: an exact solution of both equations.

Ours: the papers do not specify the initialization. Let R_x and R_y be rotations of the C channels
in the same planes, by the angles w_k and v_k in plane k, that keep the vector of ones. With

    A = R_x - 1    A_neg = R_x^-1 - 1    B = R_y - 1    B_neg = R_y^-1 - 1

a vector q of standard deviation 1 has the map z(x, y) = R_x^x R_y^y q, since a rotation keeps mean
and standard deviation: plane k turns by w_k x + v_k y. The rotations commute, so both orders of the
steps agree and Eq. 1 holds at every position, not only on the axes. A linear layer can read each of
the C/2 waves from the map.
"""

import math

import torch
from torch import Tensor


def plane_wave_basis(channels: int, max_frequency: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw the planes -> an orthogonal basis (C, C) and frequencies (C/2, 2), in float64.

    Columns 2k and 2k+1 of the basis span plane k; its frequencies are (w_k, v_k), in radians per
    position. Their lengths are 0 to ``max_frequency`` in equal steps, so that low ones are the
    densest; their directions differ by the golden angle.

    Raises:
        ValueError: ``channels`` is odd.
    """
    if channels % 2:
        raise ValueError(f'channels must be even, got {channels}')
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
    basis[:, 0] = 1  # the vector of ones is in plane 0, which does not turn
    basis, _ = torch.linalg.qr(basis)
    k = torch.arange(channels // 2, dtype=torch.float64)
    length, direction = max_frequency * 2 * k / channels, k * math.pi * (3 - math.sqrt(5))
    return basis, torch.stack([length * direction.cos(), length * direction.sin()], 1)


def plane_waves(channels: int, max_frequency: float, seed: int = 0) -> dict[str, Tensor]:
    """Return matrices ``A``, ``A_neg``, ``B``, ``B_neg``, (C, C) float64.

    Args:
        channels: C, even.
        max_frequency: In radians per position; pi is the highest frequency of a map.
        seed: Draws the planes.

    Raises:
        ValueError: ``channels`` is odd.
    """
    basis, frequencies = plane_wave_basis(channels, max_frequency, seed)
    along_x, along_y = frequencies.unbind(1)
    return {
        name: basis @ (rotation(angles) - torch.eye(channels)) @ basis.mT
        for name, angles in (
            ('A', along_x),
            ('A_neg', -along_x),
            ('B', along_y),
            ('B_neg', -along_y),
        )
    }


def rotation(angles: Tensor) -> Tensor:
    """Rotate plane k, channels 2k and 2k+1, by ``angles[k]``: (K,) -> (2K, 2K)."""
    cos, sin = angles.cos(), angles.sin()
    blocks = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    return torch.block_diag(*blocks)
