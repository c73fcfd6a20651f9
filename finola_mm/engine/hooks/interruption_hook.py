"""Save a checkpoint and exit cleanly on SIGTERM, SIGINT or SIGUSR1."""

import signal
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from threading import current_thread, main_thread
from typing import Any

import torch
from mmengine.dist import get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop
from torch import distributed, nn
from torch.utils.data import DataLoader

from ...registry import HOOKS
from ..checkpoints.checkpoint_file import atomic_write
from ..model import unwrap_model
from ..workers import SIGNALS, prepare_workers

FILE_NAME = 'interrupted.pth'  # overwritten by every interruption of a run
EXIT_STATUS = 75  # EX_TEMPFAIL in sysexits.h: try again later


class InterruptedRun(SystemExit):
    """A signal stopped the run after its checkpoint was saved."""

    def __init__(self):
        super().__init__(EXIT_STATUS)


@HOOKS.register_module()
class InterruptionHook(Hook):
    """Save ``interrupted.pth`` and exit with status 75 on SIGTERM, SIGINT or SIGUSR1.

    All ranks stop before the same step, regardless of which rank received the signal; with
    gradient accumulation, after a complete update. A validation that has started is finished first.
    ``last_checkpoint`` then names the file, and ``--resume`` continues from it. A second Ctrl-C, at
    least one second later, stops the run without saving. Before the first step, signals have their
    default effect.

    Each rank has its own BatchNorm statistics. Other checkpoints contain those of rank 0;
    ``interrupted.pth`` contains those of all ranks. Once per update, the ranks all-reduce one
    integer on the CPU.
    """

    priority = 'HIGHEST'  # before any other hook of the next step

    def __init__(self):
        self.received, self.received_at = 0, 0.0  # signal number (0: none) and time
        self.previous: dict[int, Any] = {}  # signal handlers before the first step
        self.group = None  # gloo group, if there are several ranks
        self.buffers: list[dict[str, torch.Tensor]] = []  # of each rank, by name

    def after_load_checkpoint(self, runner, checkpoint):
        if runner._resume:
            self.buffers = checkpoint.get('buffers_of_processes', [])

    def before_run(self, runner):
        # Wrap the loop, since MMEngine calls no hook when a run fails. Without training, the loop
        # is not built and is still a config dict.
        if isinstance(runner._train_loop, BaseLoop):
            runner.train_loop.run = partial(self._restore_handlers, runner.train_loop.run)

    def before_train(self, runner):
        if len(self.buffers) == get_world_size():
            for name, buffer in unwrap_model(runner.model).named_buffers():
                buffer.copy_(self.buffers[get_rank()][name])
        self.buffers = []
        if get_world_size() > 1:
            seconds = runner.cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout')
            timeout: dict[str, Any] = {}
            if seconds is not None:
                timeout = dict(timeout=timedelta(seconds=seconds))
            self.group = distributed.new_group(backend='gloo', **timeout)
        for loop in (runner.train_loop, runner.val_loop):
            # mmpretrain's vis_scheduler.py replaces the loader with an object of another class.
            if loop is not None and isinstance(loop.dataloader, DataLoader):
                prepare_workers(loop.dataloader)

    def before_test(self, runner):
        prepare_workers(runner.test_loop.dataloader)

    def _restore_handlers(self, run: Callable[[], nn.Module]) -> nn.Module:
        """Run the training loop; afterwards, restore the signal handlers."""
        try:
            return run()
        finally:
            for number, handler in self.previous.items():
                signal.signal(number, handler)
            self.previous = {}

    def _on_signal(self, number, frame) -> None:
        now = time.monotonic()
        if number == signal.SIGINT and self.received and now - self.received_at > 1:
            raise KeyboardInterrupt
        self.received, self.received_at = number, self.received_at if self.received else now

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        # A checkpoint does not hold accumulated gradients.
        if runner.iter % runner.cfg.get('optim_wrapper', {}).get('accumulative_counts', 1):
            return
        number = self._any_rank_signalled()
        if number:
            self._save_and_exit(runner, signal.Signals(number).name)
        # The first step, which all ranks have reached. Only the main thread can handle signals.
        if not self.previous and current_thread() is main_thread():
            self.previous = {number: signal.signal(number, self._on_signal) for number in SIGNALS}

    def _any_rank_signalled(self) -> int:
        """Return the number of a signal that any rank received, or 0."""
        if self.group is None:
            return self.received
        number = torch.tensor(self.received)
        distributed.all_reduce(number, distributed.ReduceOp.MAX, group=self.group)
        return int(number)

    def _save_and_exit(self, runner, name: str) -> None:
        self.buffers = self._gather_buffers(unwrap_model(runner.model))
        done = dict(epoch=runner.epoch, iter=runner.iter)  # MMEngine would add one iteration
        runner.save_checkpoint(runner.work_dir, FILE_NAME, meta=done, by_epoch=False)
        path = f'{runner.work_dir}/{FILE_NAME}'
        if is_main_process():
            atomic_write(f'{runner.work_dir}/last_checkpoint', path.encode())
        runner.logger.warning(
            f'{name} received: saved {path} after {runner.iter} iterations. '
            f'Continue with --resume (Python: resume=True). Exit status {EXIT_STATUS}.'
        )
        runner.call_hook('after_run')  # closes the logs
        if self.group is not None:  # a launcher terminates all ranks when the first one exits
            distributed.barrier(self.group)
        raise InterruptedRun

    def before_save_checkpoint(self, runner, checkpoint):
        if self.buffers:
            checkpoint['buffers_of_processes'] = self.buffers

    def _gather_buffers(self, model: nn.Module) -> list[dict[str, torch.Tensor]]:
        if self.group is None:
            return []
        gathered: list | None = [None] * get_world_size() if is_main_process() else None
        own = {name: buffer.cpu() for name, buffer in model.named_buffers()}
        distributed.gather_object(own, gathered, group=self.group)
        return gathered or []
