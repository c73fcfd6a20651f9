"""Wave speeds against matrices that are built from chosen speeds, and against their equation."""

import math

import pytest
import torch

from finola_mm.functional import channel_norm, wave_speeds, zero_mean_condition
from tests.messages import shows

C = 7


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def zero_mean(*shape, seed=0):
    x = random(*shape, seed=seed)
    return x - x.mean(-1, keepdim=True)


def with_speeds(blocks, seed=0):
    """A = Q B for a Q with these blocks on its diagonal in a basis of what B reaches.

    Both also get a part on the vector of ones, which never acts. -> A, B, the basis (C, C-1).
    """
    B = random(C, C, seed=seed)
    basis = zero_mean(C - 1, C, seed=seed + 1).mT  # its span is what B reaches: mean 0
    B = basis @ torch.linalg.pinv(basis) @ B
    Q = basis @ torch.block_diag(*blocks) @ torch.linalg.pinv(basis)
    return Q @ B + random(C, 1, seed=seed + 2), B + random(C, 1, seed=seed + 3), basis


def rotation(real, imag):
    """Its eigenvalues are real +- i*imag."""
    return torch.tensor([[real, -imag], [imag, real]], dtype=torch.float64)


def scalar(x):
    return torch.tensor([[x]], dtype=torch.float64)


def test_real_speeds_and_their_directions():
    chosen = [3.0, -2.0, 1.5, -1.0, 0.5, 0.0]
    A, B, basis = with_speeds([scalar(x) for x in chosen])
    speeds, V = wave_speeds(A, B)
    assert speeds.shape == (C - 1,) and V.shape == (C, C - 1)
    torch.testing.assert_close(speeds, torch.tensor(chosen, dtype=speeds.dtype), rtol=0, atol=1e-9)
    torch.testing.assert_close(V.abs().square().sum(0), torch.ones(C - 1, dtype=torch.float64))
    along = (V * basis / basis.norm(dim=0)).sum(0).abs()  # 1 where two unit vectors are parallel
    torch.testing.assert_close(along, torch.ones_like(along), rtol=0, atol=1e-9)


def test_complex_speeds_come_in_pairs():
    A, B, _ = with_speeds([rotation(1, 2), rotation(-0.5, 0.25), scalar(4.0), scalar(-1.0)])
    chosen = [4, 1 + 2j, 1 - 2j, -1, -0.5 + 0.25j, -0.5 - 0.25j]
    speeds = wave_speeds(A, B)[0].tolist()
    for speed in chosen:
        assert min(abs(speed - other) for other in speeds) < 1e-9
    magnitudes = [abs(speed) for speed in speeds]
    assert magnitudes == pytest.approx(sorted(map(abs, chosen), reverse=True), abs=1e-9)


def test_zeta_obeys_its_one_way_wave_equation():
    """One step right and one step down, from vectors of any mean, with any A and B."""
    A, B, z = random(C, C), random(C, C, seed=1), random(20, C, seed=2)
    speeds, V = wave_speeds(A, B)
    n = channel_norm(z)
    dz_x, dz_y = ((z + n @ matrix.T) - z for matrix in (A, B))
    back = torch.linalg.pinv(V)
    dzeta_x, dzeta_y = (d.to(V.dtype) @ back.mT for d in (dz_x, dz_y))
    torch.testing.assert_close(dzeta_x, dzeta_y * speeds, rtol=0, atol=1e-9)
    assert dzeta_x.abs().min() > 1e-4


def test_what_acts_on_the_vector_of_ones_does_not_matter():
    A, B = random(C, C), random(C, C, seed=1)
    expected = wave_speeds(A, B)[0]
    B_decayed = B - B.mean(1, keepdim=True)  # singular as a whole, as training makes it
    for other_A, other_B in [(A + 5, B), (A, B + random(C, 1, seed=2)), (A, B_decayed)]:
        torch.testing.assert_close(wave_speeds(other_A, other_B)[0], expected)


def test_condition_against_an_explicit_basis():
    B = random(C, C)
    basis = torch.linalg.qr(torch.eye(C, dtype=torch.float64)[:, 1:] - 1 / C)[0]  # of mean zero
    assert basis.sum(0).abs().max() < 1e-12
    expected = torch.linalg.cond(B @ basis).item()
    assert zero_mean_condition(B) == pytest.approx(expected, rel=1e-9)
    assert zero_mean_condition(B + 3) == pytest.approx(zero_mean_condition(B + 4), rel=1e-9)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_a_singular_b_is_refused(dtype):
    A, B = random(C, C), random(C, C, seed=1)
    B[:, 1] = B[:, 0]  # one direction of mean zero that B does not see
    with pytest.raises(ValueError, match=shows('B', 5, 6)):
        wave_speeds(A.to(dtype), B.to(dtype))
    condition = zero_mean_condition(B)
    assert condition > 1e12 or math.isinf(condition)
    assert wave_speeds(B.to(dtype), A.to(dtype))[0].abs().min() < 1e-6  # A may be singular


def test_a_b_singular_up_to_rounding_to_float32_is_refused():
    B = random(C, 3) @ random(3, C, seed=1)
    with pytest.raises(ValueError, match=shows('B', 3, 6)):
        wave_speeds(random(C, C).float(), B.float())


@pytest.mark.parametrize('shapes', [((3, 3), (4, 4)), ((3, 4), (3, 4)), ((1, 1), (1, 1))])
def test_other_shapes_are_refused(shapes):
    with pytest.raises(ValueError, match=shows(*shapes)):
        wave_speeds(*map(torch.ones, shapes))
