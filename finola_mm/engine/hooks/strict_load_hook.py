"""A run begins or goes on with weights that fill its model, or not at all."""

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from ...registry import HOOKS
from ..checkpoints import (
    CheckpointError,
    StateDictMatch,
    checkpoint_metadata,
    compare,
    find_tensors,
    format_loaded,
    format_mismatch,
    load_matched,
    validate_training_checkpoint,
)


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """Refuse a ``load_from`` that does not fill the model; tools/train.py adds it.

    mmengine loads what fits and trains the rest from where it was initialised. An initialiser is no
    way to load a whole detector: some of mmdet's draw their transformers anew after it.

    Args:
        path (str): The file's name in the messages.
    """

    priority = 'VERY_HIGH'  # before EMAHook, which exchanges tensors by name
    remedy = ''

    def __init__(self, path: str):
        self.path = path

    def after_load_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:
        module = runner.model.module if is_model_wrapper(runner.model) else runner.model
        record, tensors = checkpoint_metadata(checkpoint), find_tensors(checkpoint, self.path)
        fit = compare(module, tensors)
        if self.refuses(fit):
            said = format_mismatch(module, self.path, fit, record, tensors)
            raise CheckpointError(said + self.remedy)
        checkpoint['state_dict'] = {key: tensors[key] for key in fit.matched}
        load_matched(
            module, checkpoint['state_dict'], self.path
        )  # MMEngine does it, too, but for errors
        self.settle(checkpoint)
        runner.logger.info(format_loaded(module, self.path, fit, record))

    def refuses(self, fit: StateDictMatch) -> bool:
        return not fit.complete

    def settle(self, checkpoint: dict[str, Any]) -> None:
        """Averages begin anew: state_dict holds those of the run that made the file."""
        checkpoint.pop('ema_state_dict', None)


@HOOKS.register_module()
class StrictResumeHook(StrictLoadHook):
    """Refuse to resume from a checkpoint that is not of this model; tools/train.py adds it.

    Args:
        path (str): The checkpoint's name in the messages.
        skipped (Sequence[str]): Why newer ones were not taken, for the log.
    """

    remedy = '. --resume wants the model of that run: take its config, or another --work-dir'

    def __init__(self, path: str, *, skipped: Sequence[str] = ()):
        super().__init__(path)
        self.skipped = skipped

    def after_load_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:
        for line in self.skipped:
            runner.logger.warning(f'{self.path} is resumed, and no newer one: {line}')
        validate_training_checkpoint(checkpoint, self.path)
        super().after_load_checkpoint(runner, checkpoint)
        if checkpoint['meta'].get('iter', 0) >= runner.max_iters:
            runner.logger.warning(
                f'{self.path} is the end of its run, {runner.max_iters} iterations: there is '
                'nothing to train'
            )

    def refuses(self, fit: StateDictMatch) -> bool:
        return bool(fit.unused) or super().refuses(fit)

    def settle(self, checkpoint: dict[str, Any]) -> None:
        """Averages go on."""
