"""Report the unreadable files of a run."""

from collections.abc import Iterator

import torch
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook

from ...errors import BadDataError, list_names
from ...registry import HOOKS

LISTED = 50  # files in one line of the log


@HOOKS.register_module()
class BadSamplesHook(Hook):
    """Log the unreadable files of training, validation and testing.

    ``SeededDataset`` replaces unreadable samples and tracks them in its ``bad_samples``. This hook
    finds such data sets, including inside wrappers, combines the trackers of all ranks and logs the
    files. Checkpoints hold the status of the training samples, so a resumed run continues counting.

    With other data sets, as in detection, the first unreadable file of an evaluation stops the run,
    since replacing a sample would change the metric.

    Args:
        interval (int): Log new unreadable files after every ``interval`` training iterations, and
            after every epoch. Defaults to 1000.

    Raises:
        BadDataError: a file cannot be read during an evaluation.
    """

    def __init__(self, *, interval: int = 1000):
        self.interval = interval
        self.status: list[torch.Tensor] = []  # of each training tracker, (n,) uint8

    def after_load_checkpoint(self, runner, checkpoint):
        if runner._resume:
            self.status = [status.cpu() for status in checkpoint.get('bad_samples', [])]

    def before_save_checkpoint(self, runner, checkpoint):
        # Called on rank 0 only, so the last combined status is saved.
        if self.status:
            checkpoint['bad_samples'] = self.status

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.every_n_train_iters(runner, self.interval):
            self._report_training(runner, f'Training up to iteration {runner.iter + 1}')

    def after_train_epoch(self, runner):
        self._report_training(runner, f'Training up to iteration {runner.iter}')

    def after_train(self, runner):
        self._report_training(runner, 'Training', only_new=False)

    def before_val(self, runner):
        _add_paths_to_errors(runner.val_dataloader.dataset)

    def before_test(self, runner):
        _add_paths_to_errors(runner.test_dataloader.dataset)

    def after_val_epoch(self, runner, metrics=None):
        self._report_metric(runner, f'Validation at iteration {runner.iter}', runner.val_dataloader)

    def after_test_epoch(self, runner, metrics=None):
        self._report_metric(runner, 'Test', runner.test_dataloader)

    def _report_training(self, runner, when: str, *, only_new: bool = True) -> None:
        """Update ``status`` from all ranks and log it."""
        trackers = list(_trackers(runner.train_dataloader.dataset))
        now = [tracker.states_of_all_ranks() for tracker in trackers]
        before = self.status
        if [len(status) for status in before] != [len(status) for status in now]:
            before = [torch.zeros_like(status) for status in now]  # a new run or other data
        self.status = [torch.maximum(*pair) for pair in zip(before, now, strict=True)]
        for tracker, status, old in zip(trackers, self.status, before, strict=True):
            _warn(runner, when, tracker, status, old=old if only_new else None)

    def _report_metric(self, runner, when: str, loader) -> None:
        for tracker in _trackers(loader.dataset):
            status = tracker.states_of_all_ranks()
            _warn(runner, when, tracker, status, place=', also in the metric')


def _warn(runner, when: str, tracker, status, *, old=None, place: str = '') -> None:
    """Log the number of unreadable files and their names; with ``old``, only new names."""
    bad, seen = tracker.find_bad(status), int(torch.count_nonzero(status))
    new = bad if old is None else [index for index in bad if old[index] != status[index]]
    if not new:
        return
    runner.logger.warning(
        f'{when}: {len(bad)} of {seen} files ({len(bad) / seen:.2%}) could not be read and were '
        f'replaced by other samples{place}. {"Unreadable" if old is None else "New"}: '
        + list_names(map(tracker.name, new), limit=LISTED)
    )


def _trackers(dataset) -> Iterator:
    """Yield the ``bad_samples`` of a data set and of the data sets inside it."""
    if 'bad_samples' in _attributes(dataset):
        yield dataset.bad_samples
    for wrapped in _wrapped(dataset):
        yield from _trackers(wrapped)


def _attributes(dataset) -> dict:
    # mmpretrain's tools replace a data set with a mock, for which hasattr is always true.
    return getattr(dataset, '__dict__', {})


def _wrapped(dataset) -> list:
    # ConcatDataset has `datasets`, MMEngine's num_batch_per_epoch `_dataset`, others `dataset`.
    own = _attributes(dataset)
    wrapped = own.get('datasets') or [own.get('dataset', own.get('_dataset'))]
    return [dataset for dataset in wrapped if dataset is not None]


def _add_paths_to_errors(dataset) -> None:
    """Add the file name to errors of the innermost data sets that have no ``bad_samples``."""
    if isinstance(dataset, BaseDataset):
        dataset.prepare_data = ErrorWithPath(dataset)
    elif 'bad_samples' not in _attributes(dataset):
        for wrapped in _wrapped(dataset):
            _add_paths_to_errors(wrapped)


class ErrorWithPath:
    """Replacement for ``prepare_data``; a class, because spawned workers must pickle it."""

    def __init__(self, dataset: BaseDataset):
        self.dataset = dataset

    def __call__(self, index: int):
        try:
            return type(self.dataset).prepare_data(self.dataset, index)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise errors of any class
            name = self.dataset.get_data_info(index).get('img_path', f'sample {index}')
            reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:300]
            raise BadDataError(
                f'{name} cannot be read ({reason}). An evaluation cannot replace it without '
                'changing the metric: repair the file or remove its record. '
                'tools/check/images.py lists all unreadable files'
            ) from error
