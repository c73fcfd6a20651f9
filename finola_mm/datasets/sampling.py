"""Indices of a subset of a data set."""

from collections.abc import Sequence


def evenly_spaced(length: int, count: int | None) -> Sequence[int]:
    """``count`` evenly spaced indices below ``length``; all of them if there are no more.

    Of data sorted by class, this selects about the same number of samples of each class.
    """
    if count is None or count >= length:
        return range(length)
    return [i * length // count for i in range(count)]
