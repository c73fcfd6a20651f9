"""What ``read_checkpoint`` lets into memory besides tensors and plain values.

MMEngine's list for its own checkpoints, with a stand-in for whatever trusts its arguments. NumPy
takes bytes for an array of objects, which then holds forged addresses; and through ``getattr``
all is in reach. The stand-ins make numbers, and name the methods of a ``HistoryBuffer``.
"""

from pickle import UnpicklingError
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer

KINDS = 'biufc'  # NumPy's letters for booleans, integers and floating-point and complex numbers


def allowed() -> list:
    """The list for ``torch.serialization.safe_globals``."""
    return [
        slice,
        bytes,  # torch.save writes b'' as bytes()
        HistoryBuffer,
        (history_method, 'builtins.getattr'),
        (NumberType, 'numpy.dtype'),
        (NumberArray, 'numpy.ndarray'),
        # Under their names of NumPy 2 and of NumPy 1.
        (empty_array, 'numpy._core.multiarray._reconstruct'),
        (empty_array, 'numpy.core.multiarray._reconstruct'),
        (number, 'numpy._core.multiarray.scalar'),
        (number, 'numpy.core.multiarray.scalar'),
    ]


class NumberType:
    """In place of ``numpy.dtype``: a data type of numbers."""

    def __init__(self, name: str, *copying: bool):
        dtype = np.dtype(name) if isinstance(name, str) else None
        if dtype is None or dtype.kind not in KINDS:
            raise UnpicklingError(f'GLOBAL numpy.dtype of {dtype}')
        self.dtype = dtype

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])  # the rest is of types that are no numbers


class NumberArray(np.ndarray):
    """In place of ``numpy.ndarray``: an array of numbers, which is pickled as NumPy's."""

    def __new__(cls):
        return super().__new__(cls, 0)

    def __setstate__(self, state: tuple) -> None:
        version, shape, kind, fortran, content = state
        _check_numbers(kind, content)
        super().__setstate__((version, shape, kind.dtype, fortran, content))

    def __reduce_ex__(self, protocol: int) -> tuple:
        return np.asarray(self).__reduce_ex__(protocol)


def empty_array(*arguments: Any) -> NumberArray:
    """In place of ``_reconstruct``, which makes the array that is given its state next."""
    return NumberArray()


def number(kind: NumberType, content: bytes) -> np.generic:
    """In place of ``scalar``."""
    _check_numbers(kind, content)
    return np.frombuffer(content, kind.dtype, count=1)[0]


def _check_numbers(kind: Any, content: Any) -> None:
    if not isinstance(kind, NumberType) or not isinstance(content, bytes):
        raise UnpicklingError('GLOBAL numpy.ndarray of other things than numbers')


def history_method(owner: Any, name: str) -> Any:
    """In place of ``getattr``, with which every ``HistoryBuffer`` names its mean, min and max."""
    if owner is not HistoryBuffer or not isinstance(name, str) or name.startswith('_'):
        # Not the owner's own text: what made it has just been refused.
        raise UnpicklingError(f'GLOBAL builtins.getattr of an object {type(owner).__name__}')
    return getattr(owner, name)
