"""Checkpoints that survive whatever happens while they are written."""

from collections import deque
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook

from ...registry import HOOKS
from ..checkpoints import atomic_write, remove_stale_tmp


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook`` in a safer order.

    A new checkpoint is whole on the disk (``AtomicLocalBackend``) before ``last_checkpoint`` names
    it, and only then an outdated or no longer best one is removed. The host removes first, so that
    with ``max_keep_ckpts=1`` a kill leaves none at all. Nothing is removed from the folder of
    another run that this one was resumed from. Arguments are the host's.
    """

    def before_train(self, runner) -> None:
        super().before_train(runner)
        if self.max_keep_ckpts > 0:
            # Not bounded by itself: for a moment there is one more.
            self.keep_ckpt_ids = deque(self.keep_ckpt_ids)
        if hasattr(self, 'best_ckpt_path'):  # the host has one of the two, by the number of metrics
            self.best_ckpt_path = self._own(self.best_ckpt_path)
        for metric, path in getattr(self, 'best_ckpt_path_dict', {}).items():
            self.best_ckpt_path_dict[metric] = self._own(path)
        if is_main_process():
            for folder in {str(self.out_dir), str(runner.work_dir)}:
                for name in remove_stale_tmp(folder) if '://' not in folder else ():
                    runner.logger.info(f'Removed {name}: a run was killed while it wrote it.')

    def _own(self, best: str | None) -> str | None:
        """The best checkpoint so far if it lies in this run's folder, by its name there."""
        path = best and self.file_backend.join_path(self.out_dir, Path(best).name)
        return path if path and self.file_backend.isfile(path) else None

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict[str, Any]) -> None:
        # In a checkpoint the outdated one still counts: after a kill in between, the host removes
        # it at the next start.
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
        if self.max_keep_ckpts > 0:
            self._remove_outdated()

    def _remove_outdated(self) -> None:
        while len(self.keep_ckpt_ids) > self.max_keep_ckpts:
            name = self.filename_tmpl.format(self.keep_ckpt_ids.popleft())
            self._remove(self.file_backend.join_path(self.out_dir, name))

    def _save_best_checkpoint(self, runner, metrics: dict[str, float]) -> None:
        outdated: list[str] = []
        self.file_backend.remove = outdated.append  # the host removes before it writes
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            del self.file_backend.remove
        for path in outdated:
            if path not in self._best_paths():  # a validation repeated after a resume
                self._remove(path)

    def _best_paths(self) -> list[str | None]:
        if hasattr(self, 'best_ckpt_path'):
            return [self.best_ckpt_path]
        return list(self.best_ckpt_path_dict.values())

    def _remove(self, path: str) -> None:
        if is_main_process() and self.file_backend.isfile(path):
            self.file_backend.remove(path)
