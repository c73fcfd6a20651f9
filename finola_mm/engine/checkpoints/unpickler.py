"""Unpickle checkpoints without running code: the ``pickle_module`` of ``torch.load``.

Unpickling may call any function and set any attribute. This unpickler finds only the objects of two
tables, calls only those of ``CALLABLE``, and supports only the operations of pickle that
``torch.save`` writes. It admits the content of MMEngine's training checkpoints: tensors, plain
values, numeric NumPy arrays and MMEngine's loss histories. ``torch.load(weights_only=True)`` does
the same, but cannot be extended before torch 2.4, and NumPy's and MMEngine's own functions, which
it would need, are unsafe. This unpickler is the same for every torch.
"""

import pickle
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from argparse import Namespace
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import PosixPath
from typing import Any, SupportsIndex

import numpy as np
import torch
from mmengine.logging import HistoryBuffer


class RefusedError(pickle.UnpicklingError):
    """An object that is not admitted. ``args[0]`` is its name."""


# NumPy's own functions build object arrays from raw bytes (forged addresses), and ``getattr`` can
# reach any attribute. These stand-ins build only numeric arrays and return only methods of
# ``HistoryBuffer``.

NUMBERS = 'biufc'  # NumPy's kinds: boolean, integer, unsigned, floating-point, complex


class NumberType:
    """Stand-in for ``numpy.dtype``: a numeric data type."""

    def __init__(self, name: str, *copying: bool):
        dtype = np.dtype(name) if isinstance(name, str) else None
        if dtype is None or dtype.kind not in NUMBERS:
            raise RefusedError(f'numpy.dtype of {dtype}')
        self.dtype = dtype

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])  # the other entries describe other types


class NumberArray(np.ndarray):
    """Stand-in for ``numpy.ndarray``: a numeric array, pickled as a ``numpy.ndarray``."""

    def __new__(cls):
        return super().__new__(cls, 0)  # __setstate__ sets the content

    def __setstate__(self, state: tuple) -> None:
        version, shape, dtype, fortran, content = state
        _check_numbers(dtype, content)
        super().__setstate__((version, shape, dtype.dtype, fortran, content))

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        return np.asarray(self).__reduce_ex__(protocol)


def _reconstruct(*args: Any) -> NumberArray:
    return NumberArray()


def _scalar(dtype: NumberType, content: bytes) -> np.generic:
    _check_numbers(dtype, content)
    return np.frombuffer(content, dtype.dtype, count=1)[0]


def _check_numbers(dtype: Any, content: Any) -> None:
    if not isinstance(dtype, NumberType) or not isinstance(content, bytes):
        raise RefusedError('numpy.ndarray of objects')


def _history_method(owner: Any, name: str) -> Any:
    """Stand-in for ``getattr``, which ``HistoryBuffer`` uses to pickle its mean, min and max."""
    if owner is not HistoryBuffer or not isinstance(name, str) or name.startswith('_'):
        # Show only the type: the repr of a refused object may run its code.
        raise RefusedError(f'builtins.getattr of an object {type(owner).__name__}')
    return getattr(owner, name)


def _bytes_of(text: str, encoding: str) -> bytes:
    """Stand-in for ``_codecs.encode``, by which protocol 2 writes bytes."""
    return text.encode('latin1')


def _tensor_with_attributes(rebuild: Callable, kind: type, args: tuple, state: Any) -> Any:
    """Stand-in for ``torch._tensor._rebuild_from_type_v2``: the tensor without its attributes."""
    _check_callable(rebuild)
    return rebuild(*args)


REBUILD = (
    '_rebuild_tensor',
    '_rebuild_tensor_v2',
    '_rebuild_tensor_v3',  # torch 2.2
    '_rebuild_parameter',
    '_rebuild_parameter_with_state',
    '_rebuild_qtensor',
    '_rebuild_sparse_tensor',
    '_rebuild_meta_tensor_no_storage',
)
CALLABLE: dict[str, Callable] = {
    **{
        f'{kind.__module__}.{kind.__qualname__}': kind
        for kind in (
            OrderedDict,
            Counter,
            set,
            frozenset,
            bytearray,
            complex,
            slice,
            bytes,  # b'' is written as bytes()
            PosixPath,
            Namespace,  # the arguments of a script, in many published checkpoints
            HistoryBuffer,
        )
    },
    **{
        f'torch._utils.{name}': getattr(torch._utils, name)
        for name in REBUILD
        if hasattr(torch._utils, name)
    },
    'torch._tensor._rebuild_from_type_v2': _tensor_with_attributes,
    'torch.nn.parameter.Parameter': torch.nn.Parameter,
    'torch.serialization._get_layout': torch.serialization._get_layout,
    'torch.Size': torch.Size,
    'torch.device': torch.device,
    '_codecs.encode': _bytes_of,
    'builtins.getattr': _history_method,
    'numpy.dtype': NumberType,
    'numpy.ndarray': NumberArray,
    # numpy._core in NumPy 2, numpy.core in NumPy 1.
    **{f'numpy.{core}.multiarray._reconstruct': _reconstruct for core in ('_core', 'core')},
    **{f'numpy.{core}.multiarray.scalar': _scalar for core in ('_core', 'core')},
}
VALUES: dict[str, Any] = {
    'torch.Tensor': torch.Tensor,  # of a tensor with attributes
    'torch.storage.UntypedStorage': torch.UntypedStorage,  # torch itself finds the typed ones
    **{
        f'torch.{name}': value
        for name, value in vars(torch).items()
        if isinstance(value, (torch.dtype, torch.qscheme))
    },
}


def _check_callable(function: Any) -> None:
    if not any(function is admitted for admitted in CALLABLE.values()):
        raise RefusedError(f'a call of an object {type(function).__name__}')


def _opcodes(names: str) -> dict[int, Callable]:
    """Select operations of Python's unpickler, by their names in ``pickle``."""
    codes = (getattr(pickle, name)[0] for name in names.split())
    return {code: pickle._Unpickler.dispatch[code] for code in codes}


class Unpickler(pickle._Unpickler):
    """Python's unpickler, restricted."""

    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    dispatch = _opcodes(
        'PROTO STOP MARK POP POP_MARK DUP GLOBAL NONE NEWTRUE NEWFALSE INT LONG LONG1 LONG4 '
        'BININT BININT1 BININT2 BINFLOAT BINUNICODE SHORT_BINSTRING BINSTRING '
        'EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST EMPTY_DICT '
        'BINGET LONG_BINGET BINPUT LONG_BINPUT'
    )

    def find_class(self, module: str, name: str) -> Any:
        # The names that protocol 2 writes are those of Python 2.
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        path = f'{module}.{name}'
        found = CALLABLE.get(path, VALUES.get(path))
        if found is None:
            raise RefusedError(path)
        return found

    def load_binpersid(self) -> None:
        identifier = self.stack.pop()
        if not isinstance(identifier, tuple) or identifier[0] not in ('storage', b'storage'):
            raise RefusedError('a persistent object that is not a storage')
        self.append(self.persistent_load(identifier))

    def load_reduce(self) -> None:
        args = self.stack.pop()
        _check_callable(self.stack[-1])
        self.stack[-1] = self.stack[-1](*args)

    def load_newobj(self) -> None:
        args = self.stack.pop()
        kind = self.stack.pop()
        _check_callable(kind)
        self.append(kind.__new__(kind, *args))

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) in (NumberArray, NumberType, torch.nn.Parameter):
            target.__setstate__(state)
        elif type(target) in (HistoryBuffer, Namespace, OrderedDict):
            vars(target).update(state)
        else:
            raise RefusedError(f'the state of an object {type(target).__name__}')

    def load_append(self) -> None:
        item = self.stack.pop()
        self._top(list).append(item)

    def load_appends(self) -> None:
        items = self.pop_mark()
        self._top(list).extend(items)

    def load_setitem(self) -> None:
        value = self.stack.pop()
        key = self.stack.pop()
        self._top(dict, OrderedDict, Counter)[key] = value

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._top(dict, OrderedDict, Counter).update(zip(items[::2], items[1::2], strict=True))

    def _top(self, *kinds: type) -> Any:
        """Return the container on top of the stack, which must be of one of these types."""
        if type(self.stack[-1]) not in kinds:
            raise RefusedError(f'items of an object {type(self.stack[-1]).__name__}')
        return self.stack[-1]

    for _name in 'binpersid reduce newobj build append appends setitem setitems'.split():
        dispatch[getattr(pickle, _name.upper())[0]] = vars()[f'load_{_name}']


def load(file: Any, **options: Any) -> Any:
    """Unpickle one object, as ``pickle.load`` does."""
    return Unpickler(file, **options).load()
