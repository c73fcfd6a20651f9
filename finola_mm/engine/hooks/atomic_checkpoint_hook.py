"""Save checkpoints so that a complete one exists at all times, with metadata of the run."""

import difflib
import inspect
import json
import re
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook

from ...errors import UserError, list_names
from ...registry import HOOKS
from ..checkpoints.checkpoint_file import atomic_write, register_checkpoint_io, remove_stale_tmp

# Arguments of a backbone that affect only a training run, not the trained encoder. timm's last two
# would also read or download other files, so an encoder is never built with them from a file.
TRAINING_ONLY = (
    'init_cfg',
    'with_cp',
    'frozen_stages',
    'norm_eval',
    'drop_path_rate',
    'pretrained',  # of timm
    'checkpoint_path',  # of timm
)

# The metrics of evaluators, as regular expressions; unknown evaluators may report any name.
REPORTED = dict(
    MaskedPSNR='psnr|psnr_mean_colour|gain',
    ImageQuality='psnr|ssim|lpips|psnr/.+',
    Accuracy=r'top\d+(_thr-.+)?',
    CocoMetric='(bbox|segm)_(mAP(_50|_75|_s|_m|_l)?|AR.+)|AR@.+|.+_precision',
)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook`` in a safe order, with metadata of the encoder.

    A checkpoint is complete on disk before ``last_checkpoint`` names it; both are written
    atomically. Only then is an outdated or previously best checkpoint removed. MMEngine removes
    first: with ``max_keep_ckpts=1``, a run killed in between leaves no checkpoint. Checkpoints in
    the folder of another run, from which this one was resumed, are never removed.

    The hook calls ``register_checkpoint_io`` when a run starts. All checkpoints of the run are
    therefore written atomically and read without running code, also with the ``tools/train.py`` of
    mmpretrain and mmdet.

    The hook adds ``source`` (name of the config), ``encoder`` (config of the backbone without
    training arguments), ``normalization`` of the images and ``input_size`` (the crop in validation)
    to the ``meta`` of every checkpoint. The arguments are those of ``CheckpointHook``.
    """

    # Without ``rule``, a name that contains one of these is compared accordingly.
    _default_greater_keys = [*CheckpointHook._default_greater_keys, 'psnr', 'gain', 'ssim']
    _default_less_keys = [*CheckpointHook._default_less_keys, 'lpips']

    keep_ckpt_ids: deque[int]
    best_ckpt_path: str | None

    def __init__(self, *args: Any, **kwargs: Any):
        try:
            super().__init__(*args, **kwargs)
        except (AssertionError, KeyError, ValueError) as error:  # such as a metric without rule
            raise UserError(f'default_hooks.checkpoint: {error}') from error
        # MMEngine would pass them on to the first save.
        known = [*inspect.signature(CheckpointHook).parameters]
        for name in self.args:
            near = list_names(difflib.get_close_matches(name, known)) or 'none'
            raise UserError(
                f'default_hooks.checkpoint has no argument {name}; similar names: {near}'
            )

    def before_run(self, runner) -> None:
        register_checkpoint_io()

    def before_train(self, runner) -> None:
        super().before_train(runner)
        if self.save_best and runner.val_loop:
            metrics = runner.val_loop.evaluator.metrics
            names = [REPORTED.get(type(metric).__name__, '.+') for metric in metrics]
            prefixes = [f'{metric.prefix}/' if metric.prefix else '' for metric in metrics]
            self._check_save_best([f'{a}({b})' for a, b in zip(prefixes, names, strict=True)])
        if self.max_keep_ckpts > 0:
            # Unbounded: there is one more checkpoint until the outdated one is removed.
            self.keep_ckpt_ids = deque(self.keep_ckpt_ids)
        if hasattr(self, 'best_ckpt_path'):  # MMEngine stores one path, or a dict by metric
            self.best_ckpt_path = self._in_own_folder(self.best_ckpt_path)
        for metric, path in getattr(self, 'best_ckpt_path_dict', {}).items():
            self.best_ckpt_path_dict[metric] = self._in_own_folder(path)
        if is_main_process():
            for folder in {str(self.out_dir), str(runner.work_dir)}:
                for name in remove_stale_tmp(folder) if '://' not in folder else ():
                    runner.logger.info(f'Removed {name}, which a killed process left incomplete')

    def _check_save_best(self, reported: Iterable[str]) -> None:
        """Reject metrics that equal none of ``reported``, names or regular expressions."""
        for metric in {*self.save_best} - {'auto', *reported}:
            if not any(re.fullmatch(name, metric) for name in reported):
                raise UserError(
                    f'default_hooks.checkpoint.save_best={metric} is not a metric of the '
                    f'validation; set it to one of {", ".join(reported)}'
                )

    def before_save_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:
        """Add the metadata of the run, including to checkpoints saved by other hooks."""
        checkpoint['meta'].update(run_metadata(runner))

    def _in_own_folder(self, best: str | None) -> str | None:
        """Return the path of a recorded best checkpoint in this run's folder, if it exists."""
        path = best and self.file_backend.join_path(self.out_dir, Path(best).name)
        return path if path and self.file_backend.isfile(path) else None

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict[str, Any]) -> None:
        # Replaces MMEngine's method, which removes first and overwrites ``last_checkpoint``. The
        # saved list includes the outdated checkpoint, so that it is removed at the next start if
        # the run is killed before its removal.
        if self.max_keep_ckpts > 0:
            if step not in self.keep_ckpt_ids:
                self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            atomic_write(Path(runner.work_dir, 'last_checkpoint'), self.last_ckpt.encode())
        while len(getattr(self, 'keep_ckpt_ids', ())) > self.max_keep_ckpts > 0:
            name = self.filename_tmpl.format(self.keep_ckpt_ids.popleft())
            path = self.file_backend.join_path(self.out_dir, name)
            if is_main_process() and self.file_backend.isfile(path):
                self.file_backend.remove(path)

    def _save_best_checkpoint(self, runner, metrics: dict[str, float]) -> None:
        if not self.save_best:
            return
        self._check_save_best(metrics)
        outdated: list[str] = []
        self.file_backend.remove = outdated.append  # MMEngine removes before it writes
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            del self.file_backend.remove
        several = getattr(self, 'best_ckpt_path_dict', {}).values()
        best = {getattr(self, 'best_ckpt_path', None), *several}
        for path in outdated:
            if path not in best:  # a validation repeated after resuming writes it again
                self.file_backend.remove(path)


def run_metadata(runner) -> dict[str, Any]:
    """Return the metadata of a run as plain values, for ``checkpoint_metadata``."""
    config = runner.cfg.to_dict()
    model = config.get('model')
    model = model if isinstance(model, dict) else {}
    encoder = dict(model.get('backbone') or {})
    if '.' not in encoder.get('type', '.'):  # as the run looks it up
        encoder['type'] = f'{config.get("default_scope", "mmengine")}.{encoder["type"]}'
    images = model.get('data_preprocessor') or config.get('data_preprocessor') or {}
    to_rgb = images.get('to_rgb', images.get('bgr_to_rgb'))  # mmpretrain's name, mmdet's name
    normalization = dict(mean=images.get('mean'), std=images.get('std'), to_rgb=to_rgb)
    crops = [  # the type of a step may be a class
        step['crop_size']
        for step in config.get('test_pipeline') or []
        if isinstance(step, dict) and str(step.get('type')).endswith('CenterCrop')
    ]
    metadata = dict(
        source=runner.experiment_name.removesuffix(f'_{runner.timestamp}'),
        encoder={key: value for key, value in encoder.items() if key not in TRAINING_ONLY},
        normalization={key: value for key, value in normalization.items() if value is not None},
    )
    if crops:
        metadata['input_size'] = crops[0]
    # A class becomes its name. Other objects could not be read without running code.
    plain = json.dumps(metadata, default=lambda value: getattr(value, '__name__', str(value)))
    return json.loads(plain)
