"""Signals in ranks and data-loading workers, and workers' errors that torch would only print."""

import multiprocessing
import signal
import tempfile
from collections.abc import Callable
from functools import partial
from multiprocessing.queues import Queue
from multiprocessing.util import Finalize
from typing import Any

from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader

from ..errors import WorkerError

# SIGTERM: time limit, pre-emption, kill; SIGINT: Ctrl-C; SIGUSR1: SLURM's --signal=USR1@SECONDS.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def end_on_ctrl_c() -> None:
    """Let Ctrl-C end this process at once, unless it is handled already.

    Ranks wait for each other in C code, where Python's own handler does not run.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def prepare_workers(loader: DataLoader) -> None:
    """Make a loader's workers ignore signals, which SLURM and torchrun send to all processes.

    A worker exits when its loader closes it, and when the main process ends. A batch that it cannot
    send raises an error in the main process.
    """
    loader.worker_init_fn = partial(_start_worker, loader.worker_init_fn)
    Finalize(None, _kill_workers, exitpriority=0)  # atexit does not run in a child process


def _start_worker(init: Callable[[int], None] | None, worker: int) -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise_send_errors(worker)
    if init is not None:
        init(worker)


def _kill_workers() -> None:
    """Replace the SIGTERM of Python's exit, after which it would wait for workers without end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would report the kill
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def raise_send_errors(worker: int) -> None:
    """In a worker: make the main process raise the error if a batch cannot be sent.

    The thread that sends batches would print the error, and the main process would wait forever.
    """
    Queue._on_queue_feeder_error = _send_error  # type: ignore[attr-defined]


def _send_error(queue: Queue, error: Exception, message: tuple[int, Any]) -> None:
    if isinstance(error, OSError | RuntimeError):
        error = WorkerError(
            f'a data worker cannot send its batch: {error}'.partition('\n')[0]
            + f'. Check TMPDIR ({tempfile.gettempdir()}; at most 70 characters), the free space in '
            '/dev/shm and the limit on open files (ulimit -n), or set num_workers=0'
        )
    raised = (type(error), error, error.__traceback__)
    queue.put((message[0], ExceptionWrapper(raised, where='in a DataLoader worker')))
