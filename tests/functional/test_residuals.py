"""Residuals against plain loops in float64, and on maps that satisfy the equations exactly."""

import pytest
import torch

from finola_mm.functional import (
    finola,
    norm_linear_step,
    order_difference,
    quadrant,
    step_residual,
    unroll_orders,
    wave_residual,
    wave_speeds,
)
from tests.functional.single_vector import iterate, step

C, SIZE, ORIGIN = 6, (5, 7), (3, 2)
NAMES = ('A', 'A_neg', 'B', 'B_neg')
QUADRANTS = [(a, b) for a in NAMES[:2] for b in NAMES[2:]]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matrices():
    return dict(zip(NAMES, random(4, C, C, seed=1) / C**0.5, strict=True))


def orders(q, m):
    return [
        order[:, 0]
        for order in unroll_orders(lambda z, name: norm_linear_step(z, m[name]), q, SIZE, ORIGIN)
    ]


def test_the_two_orders_by_single_steps():
    q, m = random(2, C), matrices()
    x_then_y, y_then_x = orders(q, m)
    for n in range(2):
        for row in range(SIZE[0]):
            for col in range(SIZE[1]):
                dx, dy = col - ORIGIN[1], row - ORIGIN[0]
                a, b = m['A' if dx > 0 else 'A_neg'], m['B' if dy > 0 else 'B_neg']
                first = iterate(iterate(q[n], a, abs(dx)), b, abs(dy))
                second = iterate(iterate(q[n], b, abs(dy)), a, abs(dx))
                torch.testing.assert_close(x_then_y[n, :, row, col], first)
                torch.testing.assert_close(y_then_x[n, :, row, col], second)
    torch.testing.assert_close(
        (x_then_y + y_then_x) / 2, finola(q, *m.values(), SIZE, ORIGIN), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize(('a', 'b'), QUADRANTS)
def test_against_plain_loops(a, b):
    """Any map, every quadrant; the control takes the right side from another map."""
    z, other, m = random(2, C, *SIZE), random(2, C, *SIZE, seed=2), matrices()
    right, down = (1 if a == 'A' else -1), (1 if b == 'B' else -1)
    inner, inner_other = quadrant(z, a, b, ORIGIN), quadrant(other, a, b, ORIGIN)
    speeds, V = wave_speeds(m[a], m[b])
    waves = torch.linalg.pinv(V)
    for control in (None, inner_other):
        found_x = step_residual(inner, m[a], -1, start=control)
        found_y = step_residual(inner, m[b], -2, start=control)
        found_waves = wave_residual(inner, speeds, V, other=control)
        source = z if control is None else other
        for n in range(2):
            for i in range(inner.shape[2] - 1):
                for j in range(inner.shape[3] - 1):
                    row, col = ORIGIN[0] + down * i, ORIGIN[1] + right * j
                    here, there = z[n, :, row, col], source[n, :, row, col]
                    dx = z[n, :, row, col + right] - here
                    dy = z[n, :, row + down, col] - here
                    for found, d, matrix in ((found_x, dx, m[a]), (found_y, dy, m[b])):
                        expected = step(there, matrix) - there
                        residual = (d - expected).norm() / d.norm()
                        torch.testing.assert_close(found[n, i, j], residual)
                    left = waves @ dx.to(V.dtype)
                    dy = source[n, :, row + down, col] - there
                    side = speeds * (waves @ dy.to(V.dtype))
                    expected = (left - side).abs() / (left.abs() + side.abs())
                    torch.testing.assert_close(found_waves[n, :, i, j], expected)


def test_the_difference_of_orders_is_relative_to_their_distance():
    a, b = random(2, C, 3, 4), random(2, C, 3, 4, seed=1)
    found = order_difference(a, b)
    for n in range(2):
        for i in range(3):
            for j in range(4):
                p, r = a[n, :, i, j], b[n, :, i, j]
                expected = 2 * (p - r).norm() / (p.norm() + r.norm())
                torch.testing.assert_close(found[n, i, j], expected)


def test_a_map_of_equal_steps_satisfies_everything():
    """If B = A in a quadrant, both orders are the same steps, and all speeds are 1."""
    q, m = random(2, C), matrices()
    m['B'], m['B_neg'] = m['A'], m['A']
    first, second = orders(q, m)
    for b in ('B', 'B_neg'):
        z = quadrant((first + second) / 2, 'A', b, ORIGIN)
        assert step_residual(z, m['A'], -1).max() < 1e-12
        assert step_residual(z, m[b], -2).max() < 1e-12
        distances = [
            quadrant(order - q[..., None, None], 'A', b, ORIGIN) for order in (first, second)
        ]
        assert order_difference(*distances).nan_to_num().max() < 1e-12
        speeds, V = wave_speeds(m['A'], m[b])
        assert wave_residual(z, speeds, V).max() < 1e-8


def test_waves_of_a_plane_satisfy_their_equations():
    """z = x A n + y B n, for any A and B."""
    A, B = random(2, C, C, seed=3)
    n = random(2, C)
    n = n - n.mean(1, keepdim=True)
    x, y = torch.arange(5.0, dtype=torch.float64), torch.arange(4.0, dtype=torch.float64)
    z = (n @ A.T)[..., None, None] * x + (n @ B.T)[..., None, None] * y[:, None]
    speeds, V = wave_speeds(A, B)
    assert wave_residual(z, speeds, V).max() < 1e-9
    assert wave_residual(z, speeds, V, other=z.flip(0)).median() > 0.3


def test_a_map_of_two_orders_satisfies_them_only_on_the_axes():
    m = matrices()
    first, second = orders(random(20, C), m)
    z = quadrant((first + second) / 2, 'A', 'B_neg', ORIGIN)
    in_x, in_y = step_residual(z, m['A'], -1), step_residual(z, m['B_neg'], -2)
    assert in_x[:, 0].max() < 1e-12 and in_y[..., 0].max() < 1e-12
    assert in_x[:, 1:].median() > 0.1 and in_y[..., 1:].median() > 0.1
