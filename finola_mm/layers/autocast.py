"""Exceptions from autocast, where its casts cost more than they save.

Under autocast, torch's norms convert a map to float32 and the next layer converts the result back:
at least three times the memory traffic, for the same rounding. The norms here keep the dtype of
their input; the statistics are float32.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
