"""A progress bar below the log of a training run on a terminal."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PERIOD = 0.2  # seconds between two drawings


class ProgressBarHook(Hook):
    """Draw iteration, loss and remaining time.

    The loss is that of the log, a mean over its window. It is read from MMEngine's message hub,
    which holds numbers on the CPU, so the hook never waits for a GPU. There, the loss is as old as
    the last line of the log.
    """

    priority = 'LOWEST'  # after the hook that moves losses into the message hub

    def __init__(self, bar: Progress):
        self.bar, self.drawn = bar, 0.0

    def before_train(self, runner):
        self.task = self.bar.add_task('training', total=runner.max_iters, completed=runner.iter)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if time.monotonic() - self.drawn < PERIOD and not self.is_last_train_iter(runner):
            return
        self.drawn = time.monotonic()
        loss = runner.message_hub.log_scalars.get('train/loss')
        text = f'training  loss {loss.mean(runner.log_processor.window_size):.4f}' if loss else None
        self.bar.update(self.task, description=text, completed=runner.iter + 1, refresh=True)

    def before_val(self, runner):
        self.bar.update(self.task, description='validation', refresh=True)

    def after_val(self, runner):
        self.bar.update(self.task, description='training', refresh=True)


@contextmanager
def progress_bar(runner: Runner) -> Iterator[None]:
    """Show a progress bar in this context, in which ``runner`` trains, if there is a terminal.

    That is, if standard output is one and this is rank 0. The log lines appear above the bar; the
    log file and the output to anything but a terminal are unchanged.
    """
    if not (sys.stdout.isatty() and is_main_process()):
        yield
        return
    bar = Progress(
        TextColumn('{task.description}'),
        BarColumn(None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(soft_wrap=True),  # of log lines
        auto_refresh=False,  # no thread draws: forked data workers would inherit the locks it holds
        expand=True,
    )
    terminal = sys.stdout
    handlers = [
        handler
        for handler in runner.logger.handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is terminal
    ]
    runner.register_hook(ProgressBarHook(bar))
    with bar:
        for handler in handlers:
            handler.setStream(sys.stdout)  # which the bar has replaced
        try:
            yield
        finally:
            for handler in handlers:
                handler.setStream(terminal)
