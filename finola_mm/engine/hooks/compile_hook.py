"""Compile the parts of a model that take most of its kernel launches."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.hooks import Hook

from ...errors import UserError
from ...functional.compat import mark_step_begin
from ...registry import HOOKS
from ..model import unwrap_model

PARTS = ('backbone', 'upsampler', 'decoder', 'head')


@HOOKS.register_module()
class CompileHook(Hook):
    """Apply ``torch.compile`` to parts of the model; names and weights are unchanged.

    MMEngine's ``compile=True`` compiles the whole training step. FINOLA, between encoder and
    upsampler, is excluded here: the group sizes of block-wise FINOLA change with every batch, and
    the other form writes into buffers; both consist of a few large matrix products.

    On a GPU the mode is 'reduce-overhead' (CUDA graphs), except for detectors, whose images differ
    in size, and with gradient accumulation, since a graph's next run may overwrite its gradients.

    Args:
        parts (Sequence[str], optional): Attributes of the model. By default those of backbone,
            upsampler, decoder and head that the model has.
        **kwargs (Any): Arguments of ``torch.compile``, such as ``mode='max-autotune'``.

    Raises:
        UserError: before training, if the model has none of the parts, or lacks one given.
    """

    def __init__(self, *, parts: Sequence[str] | None = None, **kwargs: Any):
        self.parts = parts
        self.kwargs = kwargs

    def before_train(self, runner) -> None:
        model = unwrap_model(runner.model)
        parts = [part for part in self.parts or PARTS if hasattr(model, part)]
        if not parts or (self.parts and len(parts) < len(self.parts)):
            raise UserError(
                f'{type(model).__name__} lacks one of the parts {", ".join(self.parts or PARTS)} '
                "to compile; set CompileHook's parts to attributes of the model"
            )
        accumulates = runner.cfg.get('optim_wrapper', {}).get('accumulative_counts', 1) > 1
        if torch.cuda.is_available() and not (hasattr(model, 'bbox_head') or accumulates):
            self.kwargs = {'mode': 'reduce-overhead', **self.kwargs}
        for part in parts:
            getattr(model, part).compile(**self.kwargs)
        runner.logger.info(
            f'Compiling {", ".join(parts)} in the first step (minutes), again before the first '
            'validation, and for every new shape of the input. Kernels are cached on disk'
        )

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        mark_step_begin()
