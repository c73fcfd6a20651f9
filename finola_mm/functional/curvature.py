"""Gaussian curvature of feature maps.

Paper: "Image is First-order Norm+Linear Autoregressive", Appendix A, Eq. 9 (arXiv 2305.16319). The
paper does not specify how derivatives are computed. Here, central differences are used in the
interior. At the border, first derivatives are second-order one-sided differences, and second
derivatives are copied from the neighbour.
"""

import torch
from torch import Tensor

from .recurrence import at_least_float32


def gaussian_curvature(z: Tensor) -> Tensor:
    """Compute the curvature of the surface (x, y, z_k(x, y)) of every channel k.

    The result is exact for quadratic surfaces, including the border.

    Args:
        z: (N, C, H, W), H and W at least 3.

    Returns:
        (N, C, H, W), at least float32, in units of 1/position^2.

    Raises:
        ValueError: z has another shape.
    """
    if z.ndim != 4 or min(z.shape[2:]) < 3:
        raise ValueError(
            f'z must be (N, C, H, W) with H and W at least 3 (for second derivatives), got '
            f'{tuple(z.shape)}'
        )
    z = at_least_float32(z)
    z_y, z_x = torch.gradient(z, dim=(2, 3), edge_order=2)
    (z_xy,) = torch.gradient(z_x, dim=2, edge_order=2)
    determinant = _second_derivative(z, 3) * _second_derivative(z, 2) - z_xy.square()
    return determinant / (1 + z_x.square() + z_y.square()).square()


def _second_derivative(z, dim):
    """Return z(x+1) - 2 z(x) + z(x-1); at the border, the neighbour's value."""
    inside = torch.diff(z, n=2, dim=dim)
    length = inside.shape[dim]
    first, last = inside.narrow(dim, 0, 1), inside.narrow(dim, length - 1, 1)
    return torch.cat((first, inside, last), dim)
