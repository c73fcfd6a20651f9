"""Compile the parts of a model that take most of its kernel launches."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.hooks import Hook
from torch import nn

from ...errors import UserError
from ...functional.compat import COMPILES, mark_step_begin
from ...registry import HOOKS
from ..model import unwrap_model

# With vectors of 512 bits, torch 2.11's kernels that transpose bfloat16 tiles leave parts of their
# result unwritten (g++ 12): the gradients of the encoder contain any values, often NaN.
CPU_OPTIONS = {'cpp.simdlen': 256}
PARTS = ('backbone', 'neck', 'upsampler', 'decoder', 'head')


@HOOKS.register_module()
class CompileHook(Hook):
    """Apply ``torch.compile`` to parts of the model; names and weights are unchanged.

    MMEngine's ``compile=True`` compiles the whole training step, including the preparation of the
    batch on the CPU. Heads of pre-training have no ``forward`` and are not compiled: their loss
    takes a dozen kernels.

    On a GPU the mode is 'reduce-overhead' (CUDA graphs), except for detectors, whose images differ
    in size, and with gradient accumulation, since a graph's next run may overwrite its gradients. A
    part with an attribute ``dynamic_sizes = True`` multiplies matrices whose sizes change with
    every batch: it is compiled once for all sizes, without CUDA graphs.

    Args:
        parts (Sequence[str], optional): Attributes of the model. By default those of backbone,
            neck, upsampler, decoder and head that the model has, the neck only with
            ``dynamic_sizes``: ``FINOLANeck`` consists of a few large matrix products.
        **kwargs (Any): Arguments of ``torch.compile``, such as ``mode='max-autotune'``.

    Raises:
        UserError: before training, if torch is older than 2.6, or the model has none of the parts
            or lacks one given.
    """

    def __init__(self, *, parts: Sequence[str] | None = None, **kwargs: Any):
        self.parts = parts
        self.kwargs = kwargs

    def before_train(self, runner) -> None:
        if not COMPILES:
            raise UserError(f'torch {torch.__version__} is installed; --compile requires 2.6')
        model = unwrap_model(runner.model)
        parts = self.parts or [part for part in PARTS if compiled_by_default(model, part)]
        if not parts or not all(hasattr(model, part) for part in parts):
            raise UserError(
                f'{type(model).__name__} lacks one of the parts {", ".join(self.parts or PARTS)} '
                "to compile; set CompileHook's parts to attributes of the model"
            )
        accumulates = runner.cfg.get('optim_wrapper', {}).get('accumulative_counts', 1) > 1
        if get_device() == 'cuda' and not (hasattr(model, 'bbox_head') or accumulates):
            self.kwargs = {'mode': 'reduce-overhead', **self.kwargs}
        elif get_device() == 'cpu' and not {'backend', 'mode'} & self.kwargs.keys():
            self.kwargs['options'] = CPU_OPTIONS | self.kwargs.get('options', {})
        for part in parts:
            module = getattr(model, part)
            if has_dynamic_sizes(module):
                module.compile(**{**self.kwargs, 'mode': None, 'dynamic': True})
            else:
                module.compile(**self.kwargs)
        runner.logger.info(
            f'Compiling {", ".join(parts)} in the first step (minutes), again before the first '
            'validation, and for every new shape of the input. Kernels are cached on disk'
        )

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        mark_step_begin()


def compiled_by_default(model: nn.Module, part: str) -> bool:
    module = getattr(model, part, None)
    if module is None or type(module).forward is nn.Module.forward:  # without a forward
        return False
    return part != 'neck' or has_dynamic_sizes(module)


def has_dynamic_sizes(module: nn.Module) -> bool:
    return getattr(module, 'dynamic_sizes', False)
