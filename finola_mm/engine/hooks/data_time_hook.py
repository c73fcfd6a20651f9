"""Warn when training waits for data, and suggest remedies."""

import os
from platform import node

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from torch.utils.data import DataLoader

from ...registry import HOOKS


@HOOKS.register_module()
class DataTimeHook(Hook):
    """Warn when data loading takes more than ``max_share`` of the training time.

    Uses ``train/data_time`` and ``train/time``, which MMEngine's ``IterTimerHook`` measures on the
    CPU. Ignores the first iterations, in which workers start, and those after a validation or a
    checkpoint, whose time MMEngine counts as data loading.

    Args:
        max_share (float): Largest share of the time spent waiting for data before a warning is
            logged. Defaults to 0.1.
        window (int): Number of iterations to average over. Defaults to 50.
        skip (int): Number of iterations to ignore at the start. Defaults to 10.
        interval (int): Number of windows between two warnings. Defaults to 20.
    """

    priority = 'LOW'  # after IterTimerHook, before CheckpointHook

    def __init__(
        self, *, max_share: float = 0.1, window: int = 50, skip: int = 10, interval: int = 20
    ):
        self.max_share = max_share
        self.window = window
        self.skip = skip
        self.interval = interval
        self.to_skip = skip
        self.silent_windows = 0  # before the next warning
        self.cores = 1
        self._start_window()

    def before_train(self, runner):
        self.to_skip = self.skip
        self.cores = cores_per_rank()

    def before_train_epoch(self, runner):
        if self.to_skip == 1:  # MMEngine restarts its timer: nothing to ignore
            self.to_skip = 0

    def before_save_checkpoint(self, runner, checkpoint):
        self.to_skip = max(self.to_skip, 1)

    def after_val(self, runner):
        self.to_skip = max(self.to_skip, 1)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.to_skip:
            self.to_skip -= 1
            return
        scalars = runner.message_hub.log_scalars
        if 'train/time' not in scalars:  # no IterTimerHook
            return
        self.loading += scalars['train/data_time'].current()
        self.total += scalars['train/time'].current()
        self.iterations += 1
        if self.iterations == self.window:
            self._warn_if_slow(runner)
            self._start_window()

    def _start_window(self) -> None:
        self.loading, self.total, self.iterations = 0.0, 0.0, 0

    def _warn_if_slow(self, runner) -> None:
        if self.silent_windows:
            self.silent_windows -= 1
        elif self.loading > self.max_share * self.total:
            self.silent_windows = self.interval - 1
            runner.logger.warning(
                f'Iteration {runner.iter + 1}: {self.loading / self.total:.0%} of the time was '
                f'spent waiting for data ({self.loading / self.window:.3f} of '
                f'{self.total / self.window:.3f} s per iteration). '
                + advice(runner.train_dataloader, self.cores)
            )


def cores_per_rank() -> int:
    """Return this rank's share of the CPU cores. Collective: all ranks must call it.

    Ranks on one machine share its cores under torchrun; srun gives each rank its own.
    """
    own = node(), sorted(os.sched_getaffinity(0))
    sharing = [tuple(other) for other in all_gather_object(own)].count(own)
    return max(len(own[1]) // sharing, 1)


def advice(loader: DataLoader, cores: int) -> str:
    """Suggest how to make ``loader`` faster on a rank with ``cores`` CPU cores."""
    workers = loader.num_workers
    have = f'num_workers is {workers}, CPU cores per rank: {cores}'
    if workers < cores:
        parts = [f'{have}. Increase train_dataloader.num_workers.']
    else:
        parts = [f'{have}. More workers need more cores.']
    if workers and not loader.persistent_workers:
        parts.append('Set train_dataloader.persistent_workers=True to keep workers between epochs.')
    parts.append('Shrink large images with tools/dataset_converters/resize_images.py.')
    return ' '.join(parts)
