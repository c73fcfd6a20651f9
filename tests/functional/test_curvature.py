"""Gaussian curvature against surfaces whose curvature is known in closed form."""

import pytest
import torch

from finola_mm.functional import gaussian_curvature
from tests.messages import shows


def grid(h, w, step=1.0):
    """x along the columns, y along the rows, the middle at 0."""
    y, x = (step * (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) for n in (h, w))
    return x, y[:, None]


def sphere(n, extent=1.2, radius=2.0):
    """A cap of n x n positions, scaled so that they lie 1 apart; its curvature there."""
    step = extent / (n - 1)
    x, y = grid(n, n, step)
    cap = (radius**2 - x**2 - y**2).sqrt() / step
    return cap[None, None], (step / radius) ** 2


@pytest.mark.parametrize('size', [(3, 3), (5, 8), (9, 4)])
@pytest.mark.parametrize(
    ('a', 'b', 'c', 'd', 'e'),
    [
        (0.3, 0.2, 0, 0, 0),  # a bowl: positive
        (0.3, -0.2, 0, 0, 0),  # a saddle: negative
        (0, 0, 0.5, 0, 0),  # a saddle along the diagonals, of the mixed derivative alone
        (0.4, 0, 0, 0.7, -1.0),  # a cylinder: 0
        (0.1, 0.3, -0.4, 0.5, 0.2),
    ],
)
def test_exact_for_quadratics_at_the_border_too(size, a, b, c, d, e):
    x, y = grid(*size)
    z = a * x**2 + b * y**2 + c * x * y + d * x + e * y
    slope_x, slope_y = 2 * a * x + c * y + d, 2 * b * y + c * x + e
    expected = (4 * a * b - c**2) / (1 + slope_x**2 + slope_y**2) ** 2
    got = gaussian_curvature(z[None, None])[0, 0]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(('margin', 'order', 'last'), [(1, 2, 1e-4), (0, 1, 0.03)])
def test_a_sphere_has_one_over_radius_squared(margin, order, last):
    """The error falls with the square of the distance between positions; at the border with it."""
    errors = []
    for n in (17, 33, 65):
        z, expected = sphere(n)
        inside = gaussian_curvature(z)[0, 0, margin : n - margin, margin : n - margin]
        errors.append((inside / expected - 1).abs().max().item())
    assert errors[-1] < last
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert coarse / fine == pytest.approx(2**order, rel=0.2)


def test_channels_and_images_are_surfaces_of_their_own():
    z = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    both = gaussian_curvature(z)
    for n, c in torch.cartesian_prod(torch.arange(2), torch.arange(3)):
        assert torch.equal(both[n, c], gaussian_curvature(z[n, c][None, None])[0, 0])
    torch.testing.assert_close(gaussian_curvature(z.mT), both.mT)


def test_low_precision_is_computed_in_float32():
    z = torch.randn(1, 2, 4, 4).bfloat16()
    assert torch.equal(gaussian_curvature(z), gaussian_curvature(z.float()))


@pytest.mark.parametrize('shape', [(3, 4, 4), (1, 3, 2, 4), (1, 3, 4, 2)])
def test_small_maps_are_refused(shape):
    with pytest.raises(ValueError, match=shows(shape)):
        gaussian_curvature(torch.zeros(shape))
