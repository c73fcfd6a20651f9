"""Mixed precision in bfloat16, on GPUs and CPUs with bfloat16 arithmetic."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import nn

from ..functional.compat import cpu_has_avx512_bf16, gpu_computes_bfloat16
from ..registry import OPTIM_WRAPPERS


def computes_bfloat16(device: str) -> bool:
    """Return whether ``device`` ('cpu' or 'cuda') multiplies bfloat16 in hardware.

    On an x86 CPU this requires the avx512_bf16 instructions. Without them, oneDNN or torch emulates
    bfloat16, which is slower than float32.
    """
    if device == 'cpu':
        x86 = platform.machine() in ('x86_64', 'AMD64')
        return (
            torch.backends.mkldnn.is_available()
            and torch.ops.mkldnn._is_mkldnn_bf16_supported()
            and (not x86 or cpu_has_avx512_bf16())
        )
    return device != 'cuda' or gpu_computes_bfloat16()


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """MMEngine's ``OptimWrapper`` with the forward pass under bfloat16 autocast.

    Unlike ``AmpOptimWrapper`` it also works on a CPU, and does not scale the loss: bfloat16 has
    the range of float32. On a device without bfloat16 arithmetic it trains in float32 and logs
    this once. The arguments are those of ``OptimWrapper``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.device = get_device()
        self.enabled = computes_bfloat16(self.device)
        if not self.enabled:
            print_log(
                f'this {self.device.upper()} does not support bfloat16 arithmetic: training in '
                'float32',
                'current',
            )

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        autocast = torch.autocast(self.device, torch.bfloat16, enabled=self.enabled)
        with super().optim_context(model), autocast:
            yield
