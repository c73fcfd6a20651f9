"""The norm+linear step, the one law that every FINOLA map obeys.

Paper: "Image is First-order Norm+Linear Autoregressive", Eq. 1 and 3 (arXiv 2305.16319).
We differ in one word: sigma is sqrt(variance + eps), so that a constant vector stays finite.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def channel_norm(z: Tensor, eps: float = 1e-6) -> Tensor:
    """n(z) = (z - mean) / sqrt(variance + eps) over the last axis, the C channels of one position.

    Population variance, no affine. z (..., C) -> (..., C), in float32 at least.
    """
    return F.layer_norm(at_least_float32(z), z.shape[-1:], eps=eps)


def norm_linear_step(z: Tensor, matrix: Tensor, eps: float = 1e-6) -> Tensor:
    """One step of Eq. 1: z + matrix @ n(z), for row vectors z (..., C) and a (C, C) matrix.

    Under autocast the product runs in the autocast type; the statistics and the sum do not: a
    map is a sum of many steps, and bfloat16 would round each of them to 3 digits.
    """
    z = at_least_float32(z)
    return z + F.linear(channel_norm(z, eps), matrix.to(z.dtype))


def at_least_float32(z: Tensor) -> Tensor:
    """float16 and bfloat16 become float32, wider types stay as they are."""
    return z.to(torch.promote_types(z.dtype, torch.float32))
