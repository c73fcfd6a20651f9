"""The readable loops against the equations for single positions, and the fused forms."""

import itertools

import pytest
import torch

from finola_mm.functional import finola, finola_blockwise, norm_linear_step, unroll, unroll_block
from tests.messages import shows

NAMES = ('A', 'A_neg', 'B', 'B_neg')
C = 5


@pytest.fixture
def matrices():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(4, C, C, generator=generator, dtype=torch.float64)
    return dict(zip(NAMES, 0.3 * drawn, strict=True))


@pytest.fixture
def step(matrices):
    return lambda z, name: norm_linear_step(z, matrices[name])


def norm(z, eps=1e-6):
    centred = z - z.mean()
    return centred / torch.sqrt((centred**2).mean() + eps)


def test_norm_linear_step_is_equation_1(matrices):
    z = torch.randn(C, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = z + matrices['A'] @ norm(z)
    torch.testing.assert_close(norm_linear_step(z, matrices['A']), expected)


def test_unroll_on_and_off_the_axes(step):
    """By hand at three positions: right, up, and down right by the mean of both orders."""
    q = torch.randn(1, C, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    z = unroll(step, q, (3, 4), (1, 1))
    right, down = step(q, 'A'), step(q, 'B')
    expected = {(1, 2): right, (0, 1): step(q, 'B_neg')}
    expected[2, 2] = (step(right, 'B') + step(down, 'A')) / 2
    for (row, col), value in expected.items():
        torch.testing.assert_close(z[:, :, row, col], value)
    assert torch.equal(z[:, :, 1, 1], q)


@pytest.mark.parametrize('origin', [None, (0, 0), (2, 3)])
def test_the_fused_form_equals_unroll(matrices, step, origin):
    q = torch.randn(2, 3, C, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    fused = finola(q, *matrices.values(), (3, 4), origin)
    torch.testing.assert_close(fused, unroll(step, q, (3, 4), origin), rtol=0, atol=1e-11)


@pytest.mark.parametrize('steps', ['block', 'element'])
def test_the_fused_form_equals_unroll_block(matrices, step, steps):
    offsets = list(itertools.product(range(3), range(4)))
    generator = torch.Generator().manual_seed(1)
    feat = torch.randn(len(offsets), C, 2, 3, dtype=torch.float64, generator=generator)
    fused = finola_blockwise(feat, torch.tensor(offsets), *matrices.values(), steps)
    for image, offset, expected in zip(feat, offsets, fused, strict=True):
        z = unroll_block(step, image, offset, steps)
        torch.testing.assert_close(z, expected, rtol=0, atol=1e-11)


def test_an_origin_outside_the_map_is_refused(step):
    with pytest.raises(ValueError, match=shows('origin', (3, 0), '3 x 4')):
        unroll(step, torch.zeros(1, C), (3, 4), (3, 0))
