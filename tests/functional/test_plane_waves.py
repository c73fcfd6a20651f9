import math

import pytest
import torch

from finola_mm.functional import channel_norm, finola, plane_waves

SIZE, ORIGIN = (6, 7), (2, 3)


@pytest.fixture
def waves():
    """Matrices of 10 channels and the map of two vectors of standard deviation 1."""
    generator = torch.Generator().manual_seed(0)
    matrices = plane_waves(10, 2.5)
    q = torch.randn(2, 10, generator=generator, dtype=torch.float64)
    q = 0.3 + channel_norm(q, 0)
    return matrices, q, finola(q, *matrices.values(), SIZE, ORIGIN, eps=0)


def test_the_map_is_a_sum_of_plane_waves(waves):
    """Frequencies and amplitudes are eigenvalues and eigenvectors of the rotations."""
    matrices, q, z = waves
    turn_x, turn_y = (matrices[name] + torch.eye(10) for name in ('A', 'B'))
    # A mixture of both, since one of them alone may turn two planes by the same angle
    _, vectors = torch.linalg.eig(turn_x + 0.37 * turn_y)
    inverse = torch.linalg.inv(vectors)
    along_x, along_y = (
        torch.diagonal(inverse @ turn.to(vectors.dtype) @ vectors).log().imag
        for turn in (turn_x, turn_y)
    )
    amplitudes = inverse @ q.mT.to(vectors.dtype)  # (C, N)
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            phase = along_x * (column - ORIGIN[1]) + along_y * (row - ORIGIN[0])
            expected = vectors @ (torch.exp(1j * phase)[:, None] * amplitudes)  # (C, N)
            torch.testing.assert_close(z[:, :, row, column], expected.real.mT)
    lengths = torch.hypot(along_x, along_y).sort().values
    expected = torch.arange(5, dtype=torch.float64).repeat_interleave(2) * 2.5 / 5
    torch.testing.assert_close(lengths, expected)


def test_the_equations_hold_at_every_position(waves):
    matrices, _, z = waves
    norm = channel_norm(z.movedim(1, -1), 0)
    for name, after, before in (
        ('A', (slice(None), slice(1, None)), (slice(None), slice(-1))),
        ('A_neg', (slice(None), slice(-1)), (slice(None), slice(1, None))),
        ('B', (slice(1, None), slice(None)), (slice(-1), slice(None))),
        ('B_neg', (slice(-1), slice(None)), (slice(1, None), slice(None))),
    ):
        step = (z[(..., *after)] - z[(..., *before)]).movedim(1, -1)
        torch.testing.assert_close(step, norm[(slice(None), *before)] @ matrices[name].mT)


def test_refuses_an_odd_number_of_channels():
    with pytest.raises(ValueError, match='7'):
        plane_waves(7, math.pi)
