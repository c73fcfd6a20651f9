"""Gaussian curvature of feature maps: how much each channel bends over the image.

Paper: "Image is First-order Norm+Linear Autoregressive", Appendix A, Eq. 9 (arXiv 2305.16319).
How it takes the derivatives is not said; here by differences of second order inside, and at the
border of second order for the slopes and of first order for what bends.
"""

import torch
from torch import Tensor

from .recurrence import at_least_float32


def gaussian_curvature(z: Tensor) -> Tensor:
    """Curvature of the surface (x, y, z_k(x, y)) of every channel k, in units of 1/position^2.

    Central differences, one-sided ones at the border. Exact for quadratic surfaces everywhere.

    z (N, C, H, W), H and W at least 3 -> (N, C, H, W) in float32 at least. ValueError for others.
    """
    if z.ndim != 4 or min(z.shape[2:]) < 3:
        raise ValueError(
            f'z has shape {tuple(z.shape)}; expected (N, C, H, W) with H and W at least 3, which '
            'a second derivative needs'
        )
    z = at_least_float32(z)
    z_y, z_x = torch.gradient(z, dim=(2, 3), edge_order=2)
    (z_xy,) = torch.gradient(z_x, dim=2, edge_order=2)
    determinant = _second_derivative(z, 3) * _second_derivative(z, 2) - z_xy.square()
    return determinant / (1 + z_x.square() + z_y.square()).square()


def _second_derivative(z, dim):
    """z(x+1) - 2 z(x) + z(x-1); at the border that of the neighbour."""
    inside = torch.diff(z, n=2, dim=dim)
    length = inside.shape[dim]
    first, last = inside.narrow(dim, 0, 1), inside.narrow(dim, length - 1, 1)
    return torch.cat((first, inside, last), dim)
