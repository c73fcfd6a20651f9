"""Say which files of a run's data could not be read."""

from collections.abc import Iterator

from mmengine.hooks import Hook

from ..registry import HOOKS

NAMED = 50  # files that one line of the log names


@HOOKS.register_module()
class BadSamplesHook(Hook):
    """Name the bad files at the end of training and after each validation and test.

    Looks for data sets with a ``bad_samples`` (``SeededDataset``), also below other wrappers, and
    says nothing where there is none or every file was good. The tallies of all processes are
    combined.
    """

    def after_train(self, runner):
        self._report(runner, 'Training', runner.train_dataloader)

    def after_val_epoch(self, runner, metrics=None):
        when = f'Validation at iteration {runner.iter}'
        self._report(runner, when, runner.val_dataloader, place=', in the metric too')

    def after_test_epoch(self, runner, metrics=None):
        self._report(runner, 'Test', runner.test_dataloader, place=', in the metric too')

    def _report(self, runner, when: str, loader, *, place: str = '') -> None:
        for tally in _tallies(loader.dataset):
            names, seen = tally.over_processes()
            if not names:
                continue
            more = f' and {len(names) - NAMED} more' if len(names) > NAMED else ''
            runner.logger.warning(
                f'{when}: {len(names)} of the {seen} files seen could not be read; other samples '
                f'took their place{place}. Not read: {", ".join(names[:NAMED])}{more}'
            )


def _tallies(dataset) -> Iterator:
    """The tallies of a data set and of all that it wraps."""
    if 'bad_samples' in getattr(dataset, '__dict__', ()):  # the host's tools put mocks in place
        yield dataset.bad_samples
    # mmengine's ConcatDataset has `datasets`, other wrappers `dataset`.
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    for wrapped in inner:
        if wrapped is not None:
            yield from _tallies(wrapped)
