"""FINOLA: one vector unrolls over a whole map, in its parallel form.

Paper: "Image is First-order Norm+Linear Autoregressive", Section 2, Eq. 1 and 3, Fig. 3.

From q at its origin a line of vectors goes along one axis; then every vector of the line starts a
chain along the other axis, all of them at once. Both orders are taken and averaged. Up and down,
left and right, and on a square map the two orders as well, do not depend on each other and go in
the same step. So an L x L map around its centre takes L steps, the line included, and not L*L.

The backward pass is written out:

    z' = z + M n(z):    dz = dz' + (dn/dz)^T M^T dz',    dM = dz' n(z)^T

It needs n(z) and 1/sigma alone; z goes straight into the mean of the two orders. So two maps of
n(z) are kept for each path, in the type of the products, and none where no gradient is wanted.

Legend: N images, M paths, C channels, H x W positions. A bundle is S chains of L positions side by
side: the columns of a map have L = H, S = W. Its slabs (N, M, S, C) are what one step makes, on one
axis and side; K axes go together. A front (K, 2, N, M, S, C) has the newest slab of each side.
"""

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .recurrence import at_least_float32


def finola(
    q: Tensor,
    A: Tensor,
    A_neg: Tensor,
    B: Tensor,
    B_neg: Tensor,
    size: tuple[int, int],
    origin: tuple[int, int] | None = None,
    eps: float = 1e-6,
) -> Tensor:
    """Unroll a vector, or the sum of several, over a map.

    Args:
        q: (N, C), or (N, M, C) for M paths: each unrolls and is normalised by itself, then their
            maps are summed.
        A, A_neg, B, B_neg: (C, C), the steps right, left, down and up: z + A @ n(z).
        size: (H, W) of the map.
        origin: (row, col) where q lies, by default (H//2, W//2).
        eps: added to the variance.

    Returns:
        (N, C, H, W) in float32 at least, in memory channels last. Positions off both axes through
        q are the mean of the two orders (the line below Eq. 3). Under autocast the products run in
        the autocast type; the statistics and the sums do not.

    Raises:
        ValueError: for shapes, a size or an origin other than these.
    """
    size, origin = _check(q, size, origin, A=A, A_neg=A_neg, B=B, B_neg=B_neg)
    q = at_least_float32(q if q.ndim == 3 else q[:, None])[:, :, None]  # (N, M, 1, C)
    matrices = torch.stack((B_neg, B, A_neg, A)).to(q.dtype).unflatten(0, (2, 2))
    z = _Unroll.apply(q, matrices, size, origin, eps, torch.is_grad_enabled())
    return z.permute(0, 3, 1, 2)


class _Unroll(torch.autograd.Function):
    """q (N, M, 1, C) and matrices (axis, side, C, C) -> (N, H, W, C).

    The axes are y and x, as in ``size`` and ``origin``; the sides are back and forth.
    """

    @staticmethod
    def forward(ctx, q, matrices, size, origin, eps, grad_enabled):
        tape = [] if grad_enabled and any(ctx.needs_input_grad) else None
        lines = [q.new_empty(length, *q.shape) for length in size]  # the column and the row of q
        out = q.new_zeros(len(q), *size, q.shape[-1])
        maps = _bundles(out, 1)
        matrices = matrices.to(_product_type(q.device.type, matrices.dtype))
        with torch.autocast(q.device.type, enabled=False):
            rest = matrices, size, origin, eps, tape
            for axis, slabs, z in _chains((q, q), *rest):
                lines[axis][slabs] = z
            column, row = (line.squeeze(3).permute(1, 2, 0, 3) for line in lines)  # (N, M, L, C)
            for axis, slabs, z in _chains((row, column), *rest):
                for path in z.split(1, dim=2):
                    maps[axis][slabs].add_(path, alpha=0.5)
        ctx.save_for_backward(matrices, *tape or ())
        ctx.size, ctx.origin, ctx.paths = size, origin, q.shape[1]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        matrices, *tape = ctx.saved_tensors
        dm = torch.zeros_like(matrices, dtype=grad.dtype) if ctx.needs_input_grad[1] else None
        rest = matrices, ctx.size, ctx.origin, tape, dm
        with torch.autocast(grad.device.type, enabled=False):
            starts = _chains_backward(_bundles(grad.contiguous(), ctx.paths), 0.5, *rest)
            row, column = (start.permute(2, 0, 1, 3).unsqueeze(3) for start in starts)
            dq = sum(_chains_backward((column, row), 1.0, *rest))
        return dq, dm, None, None, None, None


def _chains(starts, matrices, size, origin, eps, tape):
    """Step a bundle along y from starts[0] and one along x from starts[1], (N, M, S, C) each.

    Yields (axis, slabs, z): which slabs of which bundle are done, and their values (one or two,
    N, M, S, C), to be used at once: the next step overwrites them. The tape, unless it is None,
    takes n(z) and 1/sigma of each step.
    """
    for axes, length, place in _together(size, origin):
        start = torch.stack(starts[axes]).unsqueeze(1)  # (K, 1, N, M, S, C)
        for axis, z in enumerate(start, axes.start):
            yield axis, slice(place, place + 1), z
        front = start.repeat(1, 2, 1, 1, 1, 1)  # (K, 2, N, M, S, C)
        for sides, slabs in _steps(length, place):
            z, matrix = _rows(front[:, sides]), _rows(matrices[axes, sides])
            n, scale = _normalise(z, eps)
            n = n.to(matrix.dtype)
            _add_product(z, n, matrix.mT)
            if tape is not None:
                tape += n, scale
            for axis, z in enumerate(front[:, sides], axes.start):
                yield axis, slabs, z


def _chains_backward(grads, weight, matrices, size, origin, tape, dm):
    """The gradients of both starts, (N, M, S, C); those of the matrices are added to ``dm``.

    grads: of the two bundles, (L, N, M, S, C), to be multiplied by ``weight``. The tape is used up
    from its end.
    """
    starts = []
    for axes, length, place in reversed(_together(size, origin)):
        shape = grads[axes.start].shape[1:]
        front = grads[0].new_zeros(len(grads[axes]), 2, *shape)
        zero = _rows(front).new_zeros(*_rows(front).shape[:2], 1)
        one = torch.ones_like(zero)
        for sides, slabs in reversed(_steps(length, place)):
            for d, grad in zip(front, grads[axes], strict=True):
                d[sides].add_(grad[slabs], alpha=weight)
            d, matrix = _rows(front[:, sides]), _rows(matrices[axes, sides])
            scale, n = tape.pop(), tape.pop()
            product = d.to(matrix.dtype)
            if dm is not None:
                _add_product(_rows(dm[axes, sides]), product.mT, n)
            dn = torch.bmm(product, matrix).to(d.dtype)
            k = len(n)  # n is its own normalised form: mean 0, deviation 1
            dn = torch.ops.aten.native_layer_norm_backward(
                dn, n.to(d.dtype), n.shape[-1:], zero[:k], one[:k], None, None, (True, False, False)
            )[0]
            d.addcmul_(dn, scale)
        starts = [
            d.sum(0).add_(grad[place], alpha=weight)
            for d, grad in zip(front, grads[axes], strict=True)
        ] + starts
    return starts


def _bundles(x, paths):
    """(N, H, W, C) as a bundle of columns and one of rows, (L, N, M, S, C), equal in all paths."""
    columns, rows = x.permute(1, 0, 2, 3), x.permute(2, 0, 1, 3)
    return [bundle.unsqueeze(2).expand(-1, -1, paths, -1, -1) for bundle in (columns, rows)]


def _together(size, origin):
    """Which axes go in the same steps, with their length and origin: both on a square map."""
    if size[0] == size[1] and origin[0] == origin[1]:
        return [(slice(0, 2), size[0], origin[0])]
    return [(slice(k, k + 1), size[k], origin[k]) for k in (0, 1)]


def _steps(length, origin):
    """What is stepped at each distance from the origin, and where it belongs.

    A list of (sides, slabs): slice(0, 2) is both sides, slice(0, 1) and slice(1, 2) the longer one
    of the two alone.
    """
    steps = []
    for distance in range(1, max(origin, length - 1 - origin) + 1):
        low, high = origin - distance, origin + distance
        sides = slice(int(low < 0), 1 + (high < length))
        steps.append((sides, slice(low if low >= 0 else high, high + 1, 2 * distance)))
    return steps


def _rows(x):
    """(K, 1 or 2 sides, ..., a, b) -> (K * sides, rows, b), never a copy."""
    return x.view(x.shape[0] * x.shape[1], math.prod(x.shape[2:-1]), x.shape[-1])


def _normalise(z, eps):
    """n(z) over the last axis, and 1/sigma."""
    if z.device.type != 'cpu':
        n, _, scale = torch.native_layer_norm(z, z.shape[-1:], None, None, eps)
        return n, scale
    # The same in two passes: on a CPU layer_norm takes 2.6 times as long.
    n = z - z.mean(-1, keepdim=True)
    power = torch.linalg.vector_norm(n, dim=-1, keepdim=True).square_()
    scale = power.div_(z.shape[-1]).add_(eps).rsqrt_()
    return n.mul_(scale), scale


def _add_product(into, a, b):
    """into += a @ b, multiplied in the type of b."""
    if into.dtype == b.dtype:
        torch.baddbmm(into, a, b, out=into)  # torch's FLOP counter does not know baddbmm_
    else:
        into += torch.bmm(a.to(b.dtype), b)


def _product_type(device, dtype):
    """What autocast would multiply in: its own type, but float64 stays."""
    autocast = torch.is_autocast_enabled(device) and dtype != torch.float64
    return torch.get_autocast_dtype(device) if autocast else dtype


def _check(q, size, origin, **matrices):
    """(H, W) and (row, col) as plain ints; ValueError for what does not fit."""
    if q.ndim not in (2, 3):
        raise ValueError(f'q has shape {tuple(q.shape)}; expected (N, C), or (N, M, C) for M paths')
    c = q.shape[-1]
    for name, matrix in matrices.items():
        if matrix.shape != (c, c):
            raise ValueError(
                f'{name} has shape {tuple(matrix.shape)}; q of {c} channels needs ({c}, {c})'
            )
    if not _two_ints(size) or min(size) < 1:
        raise ValueError(f'size is {size!r}; expected (H, W), two positive integers')
    h, w = size
    if origin is None:
        return (h, w), (h // 2, w // 2)
    if not _two_ints(origin) or not (0 <= origin[0] < h and 0 <= origin[1] < w):
        raise ValueError(
            f'origin is {origin!r}; expected (row, col), rows from 0 to {h - 1} and columns from '
            f'0 to {w - 1} of a {h} x {w} map'
        )
    return (h, w), tuple(origin)


def _two_ints(pair):
    return isinstance(pair, (tuple, list)) and [type(x) for x in pair] == [int, int]
