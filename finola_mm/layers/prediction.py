"""May a layer take the short way of a prediction on a CPU?

There a map of a large image (100 MB in W2880) is larger than any cache, and fresh memory of that
size costs a page fault for every 4 KB, which takes longer than the arithmetic. Layers whose
training needs every intermediate map overwrite them there.
"""

import torch
from torch import Tensor


def predicts_on_cpu(x: Tensor) -> bool:
    """Whether gradients are off, ``x`` lies on the CPU, and operators run one by one.

    False while a graph is taken (torch.compile, ONNX): the compiler plans passes and memory better,
    and wants the plain operators.
    """
    taken = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return x.device.type == 'cpu' and not (torch.is_grad_enabled() or taken)
