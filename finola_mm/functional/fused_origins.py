"""FINOLA over a map, with a separate origin for each image.

The result of ``recurrence.unroll`` for each image, computed for the whole batch. Of the images, the
one with the most steps to take comes first: those that have reached the end of their map are then
the last ones, and are dropped. Every position that is computed is thus used in the map.

Legend: N images, M paths, C channels, H x W positions; a chain is L positions long, and S chains of
an image are stepped together.
"""

import torch
from torch import Tensor

from .fused_blockwise import Permute
from .padding import copy_to_device
from .recurrence import Step


def unroll_from_origins(step: Step, q: Tensor, size: tuple[int, int], origins: Tensor) -> Tensor:
    """Unroll q over a map with any step, in both orders, and average the two (Eq. 3).

    Args:
        step: As in ``unroll``.
        q: (N, C), or (N, M, C) for M paths, whose maps are summed.
        size: (H, W) of the map.
        origins: (N, 2) integers, (row, col) of q in each map. Keep it on the CPU: the sizes of the
            products depend on its values.

    Returns:
        (N, C, H, W).

    Raises:
        ValueError: an origin lies outside the map.
    """
    q = q if q.ndim == 3 else q[:, None]  # (N, M, C)
    if (origins < 0).any() or (origins >= torch.tensor(size)).any():
        raise ValueError(f'origins must lie inside the map of {size}, got {origins.tolist()}')
    (height, width), (rows, cols) = size, origins.unbind(1)

    def along_x(z: Tensor) -> Tensor:  # (N, S, M, C) -> (N, W, S, M, C)
        return _extend(step, z, cols, width, 'A', 'A_neg')

    def along_y(z: Tensor) -> Tensor:  # (N, S, M, C) -> (N, H, S, M, C)
        return _extend(step, z, rows, height, 'B', 'B_neg')

    x_then_y = along_y(along_x(q[:, None])[:, :, 0])  # (N, H, W, M, C)
    y_then_x = along_x(along_y(q[:, None])[:, :, 0]).transpose(1, 2)  # (N, H, W, M, C)
    return ((x_then_y + y_then_x) / 2).sum(3).permute(0, 3, 1, 2)


def _extend(
    step: Step, start: Tensor, origin: Tensor, length: int, forward: str, backward: str
) -> Tensor:
    """Extend start (N, S, M, C), at position origin[n] of a new axis -> (N, L, S, M, C)."""
    images = torch.arange(len(start))
    vectors, places = [start], [images * length + origin]  # places in the result
    for name, sign, steps in ((forward, 1, length - 1 - origin), (backward, -1, origin)):
        order = steps.argsort(descending=True)
        z = start[copy_to_device(order, start.device)]
        for distance in range(1, length):
            left = int((steps >= distance).sum())  # images that have not reached the end
            if not left:
                break
            z = step(z if left == len(z) else z[:left], name)
            vectors.append(z)
            places.append((images * length + origin)[order[:left]] + sign * distance)
    rows = torch.cat(vectors)  # (N * L, S, M, C)
    order = torch.cat(places).argsort()
    return Permute.apply(rows, copy_to_device(order, rows.device)).unflatten(
        0, (len(start), length)
    )
