"""Start or resume a run only with weights that fill its model."""

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook

from ...errors import CheckpointError
from ...registry import HOOKS
from ..checkpoints.checkpoint_file import checkpoint_metadata
from ..checkpoints.resume_point import validate_training_checkpoint
from ..checkpoints.state_dict_match import (
    compare,
    find_tensors,
    format_loaded,
    format_mismatch,
    load_matched,
)
from ..model import unwrap_model

NEW_RUN = ', or start a new run without --resume in another --work-dir'


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """Refuse a ``load_from`` file that does not fill the model; added by tools/train.py.

    MMEngine loads the tensors that match and leaves the others at their initial values. An
    initialiser cannot load a whole detector: some of mmdet's initialise their transformers again
    after it.

    Args:
        path (str): The file's name in messages.
    """

    priority = 'VERY_HIGH'  # before EMAHook, which exchanges tensors by name
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
        # MMEngine loads them again, but only logs what a module refuses.
        load_matched(module, checkpoint['state_dict'], self.path)
        if not self.resuming:  # averages restart: ``state_dict`` holds those of the other run
            checkpoint.pop('ema_state_dict', None)
        runner.logger.info(format_loaded(module, self.path, match, metadata))


@HOOKS.register_module()
class StrictResumeHook(StrictLoadHook):
    """Refuse to resume from a checkpoint of another model; added by tools/train.py.

    Args:
        path (str): The checkpoint's name in messages.
        skipped (Sequence[str]): Why newer checkpoints were skipped, for the log. Defaults to ().
    """

    resuming = True

    def __init__(self, path: str, *, skipped: Sequence[str] = ()):
        super().__init__(path)
        self.skipped = skipped

    def after_load_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:
        for reason in self.skipped:
            runner.logger.warning(f'Resuming {self.path} instead of a newer checkpoint: {reason}')
        validate_training_checkpoint(checkpoint, self.path)
        super().after_load_checkpoint(runner, checkpoint)
        if checkpoint['meta'].get('iter', 0) >= runner.max_iters:
            runner.logger.warning(
                f'{self.path} is the end of its run ({runner.max_iters} iterations); nothing is '
                'left to train'
            )
