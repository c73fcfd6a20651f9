"""Compile the parts of a model that have constant shapes."""

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook

from ...errors import UserError
from ...registry import HOOKS
from ..model import unwrap_model


@HOOKS.register_module()
class CompileHook(Hook):
    """Apply ``torch.compile`` to parts of the model; names and weights are unchanged.

    MMEngine's ``compile=True`` compiles the whole training step. Block-wise FINOLA, between encoder
    and upsampler, is excluded here: its group sizes change with every batch, and it consists of a
    few large matrix products.

    Args:
        parts (Sequence[str]): Attributes of the model. Defaults to ('backbone', 'upsampler').
        **kwargs (Any): Arguments of ``torch.compile``, such as ``mode='max-autotune'``.
    """

    def __init__(self, *, parts: Sequence[str] = ('backbone', 'upsampler'), **kwargs: Any):
        self.parts = tuple(parts)
        self.kwargs = kwargs

    def before_train(self, runner) -> None:
        model = unwrap_model(runner.model)
        missing = [part for part in self.parts if not hasattr(model, part)]
        if missing:
            raise UserError(
                f'{type(model).__name__} has no part {", ".join(missing)} to compile; set parts to '
                'attributes of the model'
            )
        for part in self.parts:
            getattr(model, part).compile(**self.kwargs)
        runner.logger.info(f'Compiling {", ".join(self.parts)} in the first step')
