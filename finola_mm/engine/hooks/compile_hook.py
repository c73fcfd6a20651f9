"""torch.compile for the parts of a model that have one shape in every step."""

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from ...registry import HOOKS


@HOOKS.register_module()
class CompileHook(Hook):
    """Compile some parts of the model before training; names and weights stay as they are.

    mmengine's ``compile=True`` takes the whole training step. Here block-wise FINOLA, between
    encoder and upsampler, stays as it is: its groups change their sizes with every batch, and it
    is a few large products.

    Args:
        parts (Sequence[str]): Attributes of the model. Defaults to ('backbone', 'upsampler').
        **kwargs: Of ``torch.compile``, such as ``mode='max-autotune'``.
    """

    def __init__(self, *, parts: Sequence[str] = ('backbone', 'upsampler'), **kwargs: Any):
        self.parts = tuple(parts)
        self.kwargs = kwargs

    def before_train(self, runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        missing = [part for part in self.parts if not hasattr(model, part)]
        if missing:
            raise ValueError(f'{type(model).__name__} has no part {", ".join(missing)} to compile')
        for part in self.parts:
            getattr(model, part).compile(**self.kwargs)
        runner.logger.info(f'Compiling {", ".join(self.parts)}: the first step takes minutes.')
