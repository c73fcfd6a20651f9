"""Mixed precision in bfloat16, on any device that computes in it."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import nn

from ..registry import OPTIM_WRAPPERS


def computes_bfloat16(device: str) -> bool:
    """Whether ``device`` ('cpu', 'cuda') multiplies bfloat16 in hardware.

    Of AVX-512 the first processors lack it, and oneDNN emulates it there; without AVX-512 torch's
    own loops take many times as long as float32 does.
    """
    if device == 'cpu':
        x86 = platform.machine() in ('x86_64', 'AMD64')
        return (
            torch.backends.mkldnn.is_available()
            and torch.ops.mkldnn._is_mkldnn_bf16_supported()
            and (not x86 or torch.cpu._is_avx512_bf16_supported())
        )
    return device != 'cuda' or torch.cuda.is_bf16_supported(including_emulation=False)


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """mmengine's ``OptimWrapper`` with the forward pass under bfloat16 autocast.

    mmengine's ``AmpOptimWrapper`` refuses the CPU and scales the loss; bfloat16 has float32's
    range and needs no scaling, so a CPU run and a GPU run are the same code here. A device that
    would only emulate bfloat16 trains in float32, and the log says so.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.device = get_device()
        self.enabled = computes_bfloat16(self.device)
        if not self.enabled:
            print_log(
                f'this {self.device.upper()} would emulate bfloat16, which is far slower: '
                'training in float32',
                'current',
            )

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        autocast = torch.autocast(self.device, torch.bfloat16, enabled=self.enabled)
        with super().optim_context(model), autocast:
            yield
