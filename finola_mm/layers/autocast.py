"""Exceptions from autocast, where its casts cost more than they save.

* torch's norms convert a map to float32 under autocast, and the next layer converts the result
  back: at least three times the memory traffic, for the same rounding. The norms here keep the
  dtype of their input; the statistics are float32.
* torch.autocast casts each weight in a kernel of its own and its gradient in another.
  ``call_in_autocast_dtype`` casts all weights of a module at once: in a training step of
  MF-Dec-522, the two are 1,000 of 3,100 launches.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from ..functional.compat import get_autocast_dtype, is_autocast_enabled


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Disable autocast on the device of ``x``; the meta device has none."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if device != 'meta' else nullcontext()


class LayerNorm(nn.LayerNorm):
    """``nn.LayerNorm`` in the dtype of its input."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        with without_autocast(x):
            weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
            return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)


class GroupNorm(nn.GroupNorm):
    """``nn.GroupNorm`` in the dtype of its input."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        with without_autocast(x):
            weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
            return F.group_norm(x, self.num_groups, weight, bias, self.eps)


def call_in_autocast_dtype(module: nn.Module, *args: Any) -> Any:
    """Call ``module(*args)``; under autocast, compute in its dtype throughout.

    Weights and arguments are cast first. LayerNorm and residual connections then remain in the
    dtype, too; BatchNorm keeps its parameters and statistics in float32. Without autocast, or
    with activation checkpointing (``with_cp``), this is a plain call.
    """
    device = next(module.parameters()).device.type
    if device == 'meta' or not is_autocast_enabled(device):
        return module(*args)
    if getattr(module, 'with_cp', False):  # recomputation would use the parameters themselves
        return module(*args)
    dtype = get_autocast_dtype(device)
    with torch.autocast(device, enabled=False):
        weights, args = cast_weights(module, dtype), cast_floats(args, dtype)
        return functional_call(module, weights, args, tie_weights=False)  # True is slower


def cast_weights(module: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """Cast the parameters of ``module`` except BatchNorm's; return them by name.

    They are concatenated, cast and split, which takes as many kernels as one cast. All their
    gradients are therefore complete only at the end of the backward pass.
    """
    weights = {
        f'{path}.{name}' if path else name: weight
        for path, layer in module.named_modules()
        if not isinstance(layer, _BatchNorm)
        for name, weight in layer.named_parameters(recurse=False)
    }
    cast: dict[str, Tensor] = {}
    # Matrix products are faster at addresses that are multiples of 16 bytes.
    ordered = sorted(weights.items(), key=lambda item: item[1].numel() % 8 > 0)
    for requires_grad in (False, True):  # a frozen weight must not appear to require a gradient
        part = {name: w for name, w in ordered if w.requires_grad == requires_grad}
        if part:
            flat = torch.cat([w.flatten() for w in part.values()]).to(dtype)
            pieces = flat.split([w.numel() for w in part.values()])
            pairs = zip(part.items(), pieces, strict=True)
            cast |= {name: piece.view_as(w) for (name, w), piece in pairs}
    return cast


def cast_floats(value: Any, dtype: torch.dtype) -> Any:
    """Cast floating-point tensors, also inside tuples and lists."""
    if isinstance(value, (tuple, list)):
        return type(value)(cast_floats(item, dtype) for item in value)
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.to(dtype)
    return value
