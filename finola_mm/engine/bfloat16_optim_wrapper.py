"""Mixed precision in bfloat16, on any device that has it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from torch import nn

from ..registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """mmengine's ``OptimWrapper`` with the forward pass under bfloat16 autocast.

    mmengine's ``AmpOptimWrapper`` refuses the CPU and scales the loss; bfloat16 has float32's
    range and needs no scaling, so a CPU run and a GPU run are the same code here.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), torch.autocast(get_device(), torch.bfloat16):
            yield
