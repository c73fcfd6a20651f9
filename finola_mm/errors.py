"""Errors that a user can fix.

A ``UserError`` is one clear message: the value seen, what was expected, and the remedy. The tools
print it as one line and exit with status 1; any other exception produces a traceback.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

LISTED = 3  # names that a message lists before "and N more"


class UserError(ValueError):
    """A mistake in a command line, a config, a data set or a file, with its remedy."""


class CheckpointError(UserError):
    """A weights file is missing, unreadable, unsafe or does not match the model."""


class NoLabelsError(UserError):
    """A data set has no labels, or its splits have different classes."""


class NonFiniteLossError(UserError):
    """The loss or the weights contain NaN or infinity."""


class WorkerError(UserError):
    """A data worker cannot do its work."""

    def __init__(self, message: str):
        # torch re-raises a worker's error with the whole traceback as its message.
        super().__init__(message.rpartition(f'{type(self).__name__}: ')[2].strip())


class BadDataError(WorkerError):
    """Samples of a data set cannot be read."""


@contextmanager
def as_user_error() -> Iterator[None]:
    """Re-raise a ValueError from our own layers as a UserError.

    Used in constructors of registered classes, whose arguments come from a config.
    """
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from error


def list_names(names: Iterable, limit: int = LISTED) -> str:
    """Join names for a message: ``'a, b, c and 4 more'``."""
    names = [str(name) for name in names]
    more = f' and {len(names) - limit} more' if len(names) > limit else ''
    return ', '.join(names[:limit]) + more
