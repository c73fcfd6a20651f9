"""Faster execution on a CPU, without CPU branches in the layers.

The feature map of a large image (100 MB in W2880) does not fit into any CPU cache. Allocating
memory of that size costs a page fault for every 4 KB, which takes longer than the arithmetic. In
inference, layers may therefore overwrite such maps.
"""

import torch
from torch import Tensor, nn

from ..backbones import MobileFormer
from ..functional.compat import is_compiling
from ..layers import DynamicReLU
from ..layers.mobile import DepthwiseConv2d

# Number of elements that each thread activates at a time: 1 MB in float32, including intermediate
# results. This is about the cache size of a core.
SLICE = 2**17


def optimize_for_cpu(model: nn.Module) -> nn.Module:
    """Switch layers of ``model`` to implementations that are faster on a CPU; return ``model``.

    A model on another device is left unchanged. Results are equal up to rounding; weights and
    state-dict keys are unchanged. Training still works. In inference, maps are overwritten and
    ``MobileFormer`` runs in channels-last format, which is faster for depthwise convolutions. In
    bfloat16, strided depthwise convolutions run in float32, where their gradient is faster. Do not
    export an optimized model.
    """
    if any(parameter.device.type != 'cpu' for parameter in model.parameters()):
        return model
    for module in model.modules():
        if type(module) is DynamicReLU:
            module.__class__ = InPlaceDynamicReLU
        elif type(module) is DepthwiseConv2d and module.stride != (1, 1):
            module.__class__ = Float32DepthwiseConv2d
        elif isinstance(module, MobileFormer):
            module.stem.register_forward_pre_hook(_channels_last_in_inference)
    return model


def _in_inference() -> bool:
    return not (torch.is_grad_enabled() or is_compiling())


def _channels_last_in_inference(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    (x,) = args
    return (x.contiguous(memory_format=torch.channels_last) if _in_inference() else x,)


class InPlaceDynamicReLU(DynamicReLU):
    """Dynamic ReLU that overwrites its input in inference, a few rows of the map at a time.

    The operators and their order are those of :class:`DynamicReLU`, so results are bit-identical.
    """

    def activate(self, x: Tensor, rise: Tensor, slope: Tensor) -> Tensor:
        if not _in_inference():
            return super().activate(x, rise, slope)
        rows = max(1, SLICE * torch.get_num_threads() * x.shape[2] // max(1, x.numel()))
        slices = (t.expand_as(x).split(rows, dim=2) for t in (x, rise, slope))
        for part, r, s in zip(*slices, strict=True):
            torch.addcmul((part * r).relu_(), part, s, out=part)
        return x


class Float32DepthwiseConv2d(DepthwiseConv2d):
    """Strided depthwise convolution that computes in float32 for bfloat16 inputs."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.bfloat16:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            bias = None if self.bias is None else self.bias.float()
            return self.convolve(x.float(), self.weight.float(), bias).to(x.dtype)
