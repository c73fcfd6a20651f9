"""Start or resume a run only with weights that cover the whole model."""

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop

from ...errors import CheckpointError
from ...registry import HOOKS
from ..checkpoints.checkpoint_file import checkpoint_metadata
from ..checkpoints.resume_point import validate_training_checkpoint
from ..checkpoints.state_dict_match import (
    compare,
    find_tensors,
    format_loaded,
    format_mismatch,
    format_other_classes,
    load_matched,
)
from ..model import unwrap_model
from ..resume_settings import apply_settings

NEW_RUN = ', or start a new run without --resume in another --work-dir'


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """Reject a ``load_from`` file that does not cover the whole model; added by tools/train.py.

    MMEngine loads the tensors that match and leaves the others at their initial values. An
    initializer cannot load a whole detector, because some mmdet detectors initialize their
    transformers again afterwards.

    Args:
        path (str): The file name for messages.
    """

    priority = 'VERY_HIGH'  # before EMAHook, which swaps tensors by name
    resuming = False

    def __init__(self, path: str):
        self.path = path

    def after_load_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:
        module = unwrap_model(runner.model)
        metadata, tensors = checkpoint_metadata(checkpoint), find_tensors(checkpoint, self.path)
        match = compare(module, tensors)
        if not match.complete or (self.resuming and match.unused):
            text = format_mismatch(module, self.path, match, metadata, tensors)
            raise CheckpointError(text + (NEW_RUN if self.resuming else ''))
        checkpoint['state_dict'] = {key: tensors[key] for key in match.matched}
        # MMEngine loads them again, but only logs errors that a module raises.
        load_matched(module, checkpoint['state_dict'], self.path)
        if not self.resuming:  # averaging restarts: ``state_dict`` already holds the averages
            checkpoint.pop('ema_state_dict', None)
        runner.logger.info(format_loaded(module, self.path, match, metadata))
        metainfo = getattr(runner.train_dataloader.dataset, 'metainfo', {})
        if other := format_other_classes(metadata, metainfo.get('classes')):
            if self.resuming:
                raise CheckpointError(f'{self.path} {other}')
            runner.logger.warning(f'{self.path} {other}')


@HOOKS.register_module()
class StrictResumeHook(StrictLoadHook):
    """Resume the same model with this run's settings; added by tools/train.py.

    Rejects a checkpoint of another model or optimizer (``apply_settings``).

    Args:
        path (str): The checkpoint's name for messages.
        skipped (Sequence[str]): Reasons for skipping newer checkpoints, to log. Defaults to ().
    """

    resuming = True

    def __init__(self, path: str, *, skipped: Sequence[str] = ()):
        super().__init__(path)
        self.skipped = skipped

    def after_load_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:
        for reason in self.skipped:
            runner.logger.warning(f'Resuming from {self.path}, not a newer checkpoint: {reason}')
        validate_training_checkpoint(checkpoint, self.path)
        super().after_load_checkpoint(runner, checkpoint)
        apply_settings(runner, checkpoint, self.path)
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        unit, end = ('epoch', runner.max_epochs) if by_epoch else ('iter', runner.max_iters)
        if checkpoint['meta'].get(unit, 0) >= end:
            runner.logger.warning(
                f'{self.path} is the end of its run ({unit} {end}); there is nothing left to train'
            )
