"""Activation checkpointing that updates BatchNorm statistics once per batch.

The backward pass recomputes a module's forward pass, which would update the running statistics a
second time. They are frozen during the recomputation. In training, BatchNorm normalizes with only
the statistics of the batch, so the result is bit-identical.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


@contextmanager
def frozen_bn_stats(module: nn.Module) -> Iterator[None]:
    """Keep the buffers of all BatchNorm layers of ``module`` unchanged inside the context.

    Momentum 0 writes the old statistics back, and the batches are counted elsewhere (SyncBatchNorm
    requires a counter; on the CPU, the addition launches no kernel). Setting
    ``track_running_stats=False`` would be simpler, but the two forward passes would then save
    different tensors for the backward pass, which torch rejects.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training]
    kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, torch.tensor(0)
    try:
        yield
    finally:
        for norm, momentum, count in kept:
            norm.momentum, norm.num_batches_tracked = momentum, count


def checkpoint_module(module: nn.Module, *args: Any) -> Any:
    """Call ``module(*args)``, drop its activations and recompute them in the backward pass.

    The forward pass must not draw random numbers: the generators' state is not restored.
    """
    if not torch.is_grad_enabled():
        return module(*args)
    return checkpoint(
        module,
        *args,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), frozen_bn_stats(module)),
    )
