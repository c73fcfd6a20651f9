"""Notice that a run waits for its data, and say what would help."""

import os
from platform import node

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from torch.utils.data import DataLoader

from ...registry import HOOKS


@HOOKS.register_module()
class DataTimeHook(Hook):
    """Warn when loading takes more than its share of an iteration's time.

    Reads the scalars ``train/data_time`` and ``train/time`` that mmengine's ``IterTimerHook``
    measures on the CPU. Left out are the first iterations, in which workers start, and those
    after a validation or a checkpoint, whose time mmengine counts as loading.

    Args:
        max_share (float): The largest share that says nothing. Defaults to 0.1.
        window (int): Iterations that are judged together. Defaults to 50.
        skip (int): Iterations left out at the start of a run. Defaults to 10.
        interval (int): Windows between two warnings. Defaults to 20.
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
        self.silent_windows = 0  # until the next warning may come
        self.cores = 1
        self._start_window()

    def before_train(self, runner):
        self.to_skip = self.skip
        self.cores = cores_of_each()

    def before_train_epoch(self, runner):
        if self.to_skip == 1:  # mmengine starts its clock anew: nothing to leave out any more
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
        if 'train/time' not in scalars:  # a runner without IterTimerHook
            return
        self.loading += scalars['train/data_time'].current()
        self.total += scalars['train/time'].current()
        self.iterations += 1
        if self.iterations == self.window:
            self._judge(runner)
            self._start_window()

    def _start_window(self) -> None:
        self.loading, self.total, self.iterations = 0.0, 0.0, 0

    def _judge(self, runner) -> None:
        if self.silent_windows:
            self.silent_windows -= 1
        elif self.loading > self.max_share * self.total:
            self.silent_windows = self.interval - 1
            runner.logger.warning(
                f'Up to iteration {runner.iter + 1}, {self.loading / self.total:.0%} of the time '
                f'went into waiting for data ({self.loading / self.window:.3f} of '
                f'{self.total / self.window:.3f} s an iteration). '
                + advice(runner.train_dataloader, self.cores)
            )


def cores_of_each() -> int:
    """This process's part of the cores that it may use. All processes have to call this.

    Counted, because not every launcher says how many processes share a machine, and some (srun)
    give each process cores of its own.
    """
    mine = node(), sorted(os.sched_getaffinity(0))
    sharing = [tuple(other) for other in all_gather_object(mine)].count(mine)
    return max(len(mine[1]) // sharing, 1)


def advice(loader: DataLoader, cores: int) -> str:
    """What would make ``loader`` faster where its process has so many ``cores``."""
    workers = loader.num_workers
    have = f'num_workers is {workers} and each process has {cores} core{"s" * (cores > 1)}'
    if workers < cores:
        parts = [f'{have}: raise train_dataloader.num_workers.']
    else:
        parts = [f'{have}: more cores would help, more workers would not.']
    if workers and not loader.persistent_workers:
        parts.append('train_dataloader.persistent_workers=True spares their start in every epoch.')
    parts.append(
        'Large images are decoded faster once tools/dataset_converters/resize_images.py has made '
        'them small.'
    )
    return ' '.join(parts)
