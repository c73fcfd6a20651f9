"""Say which files of a run's data could not be read."""

from collections.abc import Iterator

import torch
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook

from ...registry import HOOKS

NAMED = 50  # files that one line of the log names


class EvaluationDataError(ValueError):
    """An image of an evaluation cannot be read. The message is one line, meant for the user."""

    def __init__(self, message: str):
        # torch raises a worker's error again with the whole traceback as its message.
        super().__init__(message.rpartition(f'{type(self).__name__}: ')[2].strip())


@HOOKS.register_module()
class BadSamplesHook(Hook):
    """Name the bad files during and at the end of training, and after each validation and test.

    Looks for data sets with a ``bad_samples`` (``SeededDataset``), also below other wrappers, and
    says nothing where there is none or every file was good. The tallies of all processes are
    combined. That of training goes into checkpoints as of the last time that it was looked at, so
    a resumed run counts what was seen before.

    In an evaluation on a data set that has none, as in detection, nothing is replaced: that would
    be another metric. There the first file that cannot be read ends the run (``Raises``).

    Args:
        interval (int): During training the tally is looked at after every epoch and after so many
            iterations; files that have turned bad since are named. Defaults to 1000.

    Raises:
        EvaluationDataError: a file of an evaluation cannot be read, with its name.
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

    def before_val(self, runner):
        _name_errors(runner.val_dataloader.dataset)

    def before_test(self, runner):
        _name_errors(runner.test_dataloader.dataset)

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
            _warn(runner, when, tally, tally.states_of_all_ranks(), place=', in the metric too')

    def _combine(self, runner) -> list[torch.Tensor]:
        """Bring ``status`` up to date. -> what it was before"""
        now = [tally.states_of_all_ranks() for tally in _tallies(runner.train_dataloader.dataset)]
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
    if 'bad_samples' in _own(dataset):
        yield dataset.bad_samples
    for wrapped in _wrapped(dataset):
        yield from _tallies(wrapped)


def _own(dataset) -> dict:
    return getattr(dataset, '__dict__', {})  # the host's tools put mocks in place, which have all


def _wrapped(dataset) -> list:
    # mmengine's ConcatDataset has `datasets`, num_batch_per_epoch `_dataset`, others `dataset`.
    own = _own(dataset)
    wrapped = own.get('datasets') or [own.get('dataset', own.get('_dataset'))]
    return [dataset for dataset in wrapped if dataset is not None]


def _name_errors(dataset) -> None:
    """Let the innermost data sets say which file they could not read; not those with a tally."""
    if isinstance(dataset, BaseDataset):
        dataset.prepare_data = ErrorWithPath(dataset)
    elif 'bad_samples' not in _own(dataset):
        for wrapped in _wrapped(dataset):
            _name_errors(wrapped)


class ErrorWithPath:
    """In place of a data set's ``prepare_data``; of a class, so that workers can be spawned."""

    def __init__(self, dataset: BaseDataset):
        self.dataset = dataset

    def __call__(self, index: int):
        try:
            return type(self.dataset).prepare_data(self.dataset, index)
        except MemoryError:
            raise
        except Exception as error:  # each format has its own way to fail
            name = self.dataset.get_data_info(index).get('img_path', f'sample {index}')
            reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:300]
            raise EvaluationDataError(
                f'{name} cannot be read ({reason}). An evaluation replaces no image, since that '
                'would be another metric: mend the file or remove its record; '
                'tools/check/images.py names all such files'
            ) from error
