"""A signal ends a run between two steps, with a checkpoint that it goes on from to the bit."""

import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import torch
from mmengine.dist import get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop
from torch import distributed, nn
from torch.utils.data import DataLoader

from ...registry import HOOKS
from ..checkpoints import atomic_write

# From a time limit, a pre-emption or `kill`; from a keyboard; from SLURM's --signal=USR1@SECONDS.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
NAME = 'interrupted.pth'  # always the same one: a run that is often interrupted leaves one file
EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: nothing is wrong, start it again


class InterruptedRun(SystemExit):
    """The run was asked to end, and has saved itself."""

    def __init__(self):
        super().__init__(EXIT_CODE)


@HOOKS.register_module()
class InterruptionHook(Hook):
    """On SIGTERM, SIGINT or SIGUSR1 finish the step, save ``interrupted.pth`` and leave.

    All processes leave after the same step, whichever of them got the signal; with accumulated
    gradients after a whole update. A validation is finished first, and the checks before the next
    epoch too. The exit code is 75, ``last_checkpoint`` names the file, and ``--resume`` goes on
    from it. A second Ctrl-C, a second later, ends the run at once. However the run ends, the
    signals' handlers are then those of before.

    Costs a reduction of one number over the processes per update, on the CPU: no wait for a GPU.

    Each process has BatchNorm statistics of its own, and a checkpoint those of the first. This one
    has them all.
    """

    priority = 'HIGHEST'  # nothing of the next step has happened when this looks

    def __init__(self):
        self.received, self.since = 0, 0.0
        self.reached: dict[str, int] = {}  # when it leaves: epochs and iterations made
        self.group = None  # gloo's, where there are several processes
        self.buffers: list[dict[str, torch.Tensor]] = []  # of each process, by name

    def after_load_checkpoint(self, runner, checkpoint):
        if runner._resume:
            self.buffers = checkpoint.get('buffers_of_processes', [])

    def before_run(self, runner):
        # No hook is called when a run fails. A test leaves the training loop a dict.
        if isinstance(runner._train_loop, BaseLoop):
            runner.train_loop.run = partial(self._run, runner.train_loop.run)

    def before_train(self, runner):
        if len(self.buffers) == get_world_size():
            for name, buffer in _model(runner).named_buffers():
                buffer.copy_(self.buffers[get_rank()][name])
        self.buffers = []
        if get_world_size() > 1:
            seconds = runner.cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout')
            timeout = None if seconds is None else timedelta(seconds=seconds)
            self.group = distributed.new_group(backend='gloo', timeout=timeout)
        for loop in (runner.train_loop, runner.val_loop):
            # The host's vis_scheduler.py brings a loader of its own.
            if loop is not None and isinstance(loop.dataloader, DataLoader):
                ignore_signals_in_workers(loop.dataloader)

    def _run(self, run: Callable[[], nn.Module]) -> nn.Module:
        """The training loop, during which signals wait for the end of a step."""
        before = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        try:
            return run()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number, frame) -> None:
        now = time.monotonic()
        if number == signal.SIGINT and self.received and now - self.since > 1:
            raise KeyboardInterrupt
        self.received, self.since = number, self.since if self.received else now

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        # Gradients of a part of an update are in no checkpoint.
        if runner.iter % runner.cfg.get('optim_wrapper', {}).get('accumulative_counts', 1):
            return
        number = self._any_rank_signalled()
        if number:
            self._save_and_exit(runner, signal.Signals(number).name)

    def _any_rank_signalled(self) -> int:
        """The signal that any of the processes received, 0 for none."""
        if self.group is None:
            return self.received
        number = torch.tensor(self.received)
        distributed.all_reduce(number, distributed.ReduceOp.MAX, group=self.group)
        return number.item()

    def _save_and_exit(self, runner, name: str) -> None:
        self.buffers = self._gathered(_model(runner))
        self.reached = dict(epoch=runner.epoch, iter=runner.iter)
        runner.save_checkpoint(runner.work_dir, NAME, by_epoch=False)
        path = f'{runner.work_dir}/{NAME}'
        if is_main_process():
            atomic_write(f'{runner.work_dir}/last_checkpoint', path.encode())
        runner.logger.warning(
            f'{name}: {path} holds the run after {runner.iter} iterations; go on with --resume. '
            f'The exit code is {EXIT_CODE}.'
        )
        runner.call_hook('after_run')  # closes the logs
        if self.group is not None:  # a launcher ends all when the first one leaves
            distributed.barrier(self.group)
        raise InterruptedRun

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint['meta'].update(self.reached)  # FlexibleRunner overrides what it is given
        if self.buffers:
            checkpoint['buffers_of_processes'] = self.buffers

    def _gathered(self, model: nn.Module) -> list[dict[str, torch.Tensor]]:
        if self.group is None:
            return []
        gathered = [None] * get_world_size() if is_main_process() else None
        own = {name: buffer.cpu() for name, buffer in model.named_buffers()}
        distributed.gather_object(own, gathered, group=self.group)
        return gathered or []


def _model(runner) -> nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def ignore_signals_in_workers(loader: DataLoader) -> None:
    """Keep signals from a loader's workers: SLURM and torchrun send them to all of a process's."""
    loader.worker_init_fn = partial(_start_worker, loader.worker_init_fn)


def _start_worker(init: Callable[[int], None] | None, worker: int) -> None:
    for number in SIGNALS:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_obey_only_parent, daemon=True).start()
    if init is not None:
        init(worker)


def _obey_only_parent() -> None:
    """By SIGTERM, too, a process ends its workers when it leaves, and waits until they are gone."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
