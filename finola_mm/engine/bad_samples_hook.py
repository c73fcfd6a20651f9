"""Say which files of a run's data could not be read."""

from collections.abc import Iterator

import torch
from mmengine.hooks import Hook

from ..registry import HOOKS

NAMED = 50  # files that one line of the log names


@HOOKS.register_module()
class BadSamplesHook(Hook):
    """Name the bad files during and at the end of training, and after each validation and test.

    Looks for data sets with a ``bad_samples`` (``SeededDataset``), also below other wrappers, and
    says nothing where there is none or every file was good. The tallies of all processes are
    combined. That of training goes into checkpoints as of the last time that it was looked at, so
    a resumed run counts what was seen before.

    Args:
        interval (int): During training the tally is looked at after every epoch and after so many
            iterations; files that have turned bad since are named. Defaults to 1000.
    """

    def __init__(self, *, interval: int = 1000):
        self.interval = interval
        self.status: list[torch.Tensor] = []  # of each tally of training, (n,) uint8

    def after_load_checkpoint(self, runner, checkpoint):
        if runner._resume:
            self.status = [status.cpu() for status in checkpoint.get('bad_samples', [])]

    def before_save_checkpoint(self, runner, checkpoint):
        # Called on one process only: what others have met since cannot be asked for here.
        if self.status:
            checkpoint['bad_samples'] = self.status

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.every_n_train_iters(runner, self.interval):
            self._report_new(runner, runner.iter + 1)

    def after_train_epoch(self, runner):
        self._report_new(runner, runner.iter)

    def after_train(self, runner):
        self._combine(runner)
        tallies = _tallies(runner.train_dataloader.dataset)
        for tally, status in zip(tallies, self.status, strict=True):
            _warn(runner, 'Training', tally, status)

    def after_val_epoch(self, runner, metrics=None):
        self._report_metric(runner, f'Validation at iteration {runner.iter}', runner.val_dataloader)

    def after_test_epoch(self, runner, metrics=None):
        self._report_metric(runner, 'Test', runner.test_dataloader)

    def _report_new(self, runner, iteration: int) -> None:
        before = self._combine(runner)
        tallies = _tallies(runner.train_dataloader.dataset)
        for tally, status, old in zip(tallies, self.status, before, strict=True):
            _warn(runner, f'Training up to iteration {iteration}', tally, status, old=old)

    def _report_metric(self, runner, when: str, loader) -> None:
        for tally in _tallies(loader.dataset):
            _warn(runner, when, tally, tally.over_processes(), place=', in the metric too')

    def _combine(self, runner) -> list[torch.Tensor]:
        """Bring ``status`` up to date. -> what it was before"""
        now = [tally.over_processes() for tally in _tallies(runner.train_dataloader.dataset)]
        before = self.status
        if [len(status) for status in before] != [len(status) for status in now]:
            before = [torch.zeros_like(status) for status in now]  # a start, or other data
        self.status = [torch.maximum(*pair) for pair in zip(before, now, strict=True)]
        return before


def _warn(runner, when: str, tally, status, *, old=None, place: str = '') -> None:
    """Count the bad files and name them, or only those that are not as in ``old``."""
    bad, seen = tally.find_bad(status), int(torch.count_nonzero(status))
    new = bad if old is None else [index for index in bad if old[index] != status[index]]
    if not new:
        return
    more = f' and {len(new) - NAMED} more' if len(new) > NAMED else ''
    names = ', '.join(tally.name(index) for index in new[:NAMED])
    runner.logger.warning(
        f'{when}: {len(bad)} of the {seen} files seen could not be read; other samples took their '
        f'place{place} ({len(bad) / seen:.2%}). {"Not read" if old is None else "New among them"}: '
        f'{names}{more}'
    )


def _tallies(dataset) -> Iterator:
    """The tallies of a data set and of all that it wraps."""
    own = getattr(dataset, '__dict__', {})  # the host's tools put mocks in place, which have all
    if 'bad_samples' in own:
        yield own['bad_samples']
    # mmengine's ConcatDataset has `datasets`, num_batch_per_epoch `_dataset`, others `dataset`.
    for wrapped in own.get('datasets') or [own.get('dataset', own.get('_dataset'))]:
        if wrapped is not None:
            yield from _tallies(wrapped)
