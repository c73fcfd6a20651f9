"""Read and write files of weights without running what is in them.

A ``.pth`` file is a pickle, and unpickling may call anything. Here only tensors, plain values and
the few classes that MMEngine's training checkpoints hold are let in.
"""

import errno
import hashlib
import json
import os
import re
import struct
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .allow_list import allowed

SUFFIXES = ('.pth', '.safetensors')
TRUST = 'FINOLA_TRUST_CHECKPOINTS'  # environment variable; 1: unpickle everything
# What unpickling the bytes of a damaged file ends in.
UNREADABLE = (
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    struct.error,
)
# torch.load's RuntimeErrors about the file; others are about memory and devices.
TORN = re.compile(
    'PytorchStreamReader|inline_container|hasRecord|corrupted|wrong byte size|record size|'
    'resize storage'
)
ZIP = b'PK\x03\x04'  # how a file of torch.save begins; before torch 1.6 it was a pickle
# Types of a checkpoint's entries, and of the entries of its meta that are read here.
ENTRIES = dict(state_dict=dict, meta=dict)
META = dict(cfg=str, experiment_name=str, source=str, encoder=dict, normalization=dict)


class CheckpointError(ValueError):
    """A file of weights is unreadable, unsafe or of another model. The message is for the user."""


def read_checkpoint(path: str | Path, map_location: Any = 'cpu') -> dict[str, Any]:
    """The content of a ``.safetensors`` file, or of a file that ``torch.save`` wrote.

    Of ``.safetensors`` a dict of ``state_dict`` and ``meta``, as ``write_weights`` takes them.
    map_location: as in ``torch.load``.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: torn, of another kind, or with objects that are neither tensors nor plain
            values; those are let in by ``FINOLA_TRUST_CHECKPOINTS=1``, and with them the entry
            ``config`` of ``meta``, which MMEngine executes on a resume.
        OSError, RuntimeError, MemoryError: the file may be good; the disk or the device failed.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        remedy = '; download it first' if '://' in str(path) else ''
        raise FileNotFoundError(f'there is no checkpoint file {path}{remedy}')
    with open(file, 'rb') as opened:
        head = opened.read(16)
    if file.suffix == '.safetensors':
        checkpoint = _read_safetensors(file, map_location)
    elif head.startswith((ZIP, b'\x80')):
        checkpoint = _read_pickle(file, map_location)
    else:
        found = f'it begins with {head!r}' if head else 'it is empty'
        raise CheckpointError(
            f'{file} is not a file of torch.save: {found}. Download or copy it again'
        )
    _check_entries(file, checkpoint)
    if not _trusted():
        checkpoint.get('meta', {}).pop('config', None)
    return checkpoint


def _trusted() -> bool:
    return os.environ.get(TRUST) == '1'


def _check_entries(file: Path, checkpoint: Any) -> None:
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f'{file} holds one object of type {type(checkpoint).__name__}; expected a dict of '
            'tensors, or a dict with an entry state_dict'
        )
    _check_types(file, checkpoint, ENTRIES, '')
    _check_types(file, checkpoint.get('meta', {}), META, ' of meta')


def _check_types(file: Path, entries: dict, expected: dict[str, type], where: str) -> None:
    for name, kind in expected.items():
        if name in entries and not isinstance(entries[name], kind):
            raise CheckpointError(
                f'{file}: its entry {name!r}{where} is of type {type(entries[name]).__name__}; '
                f'expected {kind.__name__}'
            )


def _read_pickle(file: Path, map_location: Any) -> Any:
    try:
        if _trusted():
            return torch.load(file, map_location, weights_only=False)
        with torch.serialization.safe_globals(allowed()):
            return torch.load(file, map_location, weights_only=True)
    except UnpicklingError as error:
        foreign = re.search(r'GLOBAL (\S+)', str(error))
        if not foreign:
            raise damaged(file, error) from None
        raise CheckpointError(
            f'{file} was not read: it holds the foreign object {foreign[1]}, and to unpickle it '
            f'would run its code. If you made this file or trust its source, set {TRUST}=1.'
        ) from None
    except RuntimeError as error:
        if not TORN.search(str(error)):
            raise
        raise damaged(file, error) from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # torch looks for the end of an archive before its start
            raise
        raise damaged(file, error) from None
    except UNREADABLE as error:
        if _trusted() and not isinstance(error, EOFError):
            raise  # of a foreign class itself, which may not be installed
        raise damaged(file, error) from None


def damaged(file: Path, error: Exception) -> CheckpointError:
    """What to raise for a file that cannot be read because of what is in it."""
    # torch has much more to say than what it met.
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].partition('. ')[0]
    return CheckpointError(
        f'{file} is damaged or was cut short at {file.stat().st_size} bytes, as when a run is '
        f'killed while it writes or a download breaks off; use an earlier checkpoint ({reason})'
    )


def _safetensors(file: Path) -> ModuleType:
    try:
        import safetensors.torch
    except ImportError:
        raise CheckpointError(
            f'{file} needs a package that is not installed: python -m pip install safetensors'
        ) from None
    return safetensors


def _read_safetensors(file: Path, map_location: Any) -> dict[str, Any]:
    package = _safetensors(file)
    try:
        with package.safe_open(file, framework='pt', device='cpu') as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}
    except package.SafetensorError as error:
        raise damaged(file, error) from None
    if map_location not in (None, 'cpu'):
        tensors = {name: tensor.to(map_location) for name, tensor in tensors.items()}
    try:
        meta = json.loads(metadata.get('meta', '{}'))
    except ValueError as error:
        raise CheckpointError(f'{file}: its meta is no JSON ({error})') from None
    return dict(meta=meta, state_dict=tensors)


def write_weights(
    path: str | Path,
    state_dict: dict[str, Tensor],
    *,
    meta: dict[str, Any],
    hashed: bool = False,
    force: bool = False,
) -> Path:
    """Write tensors and plain values that any tool can read; returns the file.

    A ``.pth`` file then holds a dict of ``state_dict`` and ``meta``, and ``torch.load`` reads it
    with ``weights_only=True``; ``.safetensors`` holds ``meta`` as JSON in its metadata. The file
    appears under its name only when it is complete. hashed: put the first 8 hex digits of its
    SHA-256 in the name, ``name-1a2b3c4d.pth``.

    Raises:
        ValueError: another suffix, or ``meta`` with other things than plain values.
        FileExistsError: the file is there, and ``force`` is not given.
    """
    file = Path(path)
    if file.suffix not in SUFFIXES:
        raise ValueError(f'{file}: expected a name that ends in {" or ".join(SUFFIXES)}')
    try:
        text = json.dumps(meta)
    except (TypeError, ValueError) as error:
        raise ValueError(f'{file}: its meta cannot be written as JSON ({error})') from None
    if not hashed:
        _refuse_existing(file, force)
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {  # memory of their own: a view would drag the whole of its storage along
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in state_dict.items()
    }
    unfinished = file.with_name(f'.{file.name}.{os.getpid()}')
    try:
        _write(unfinished, tensors, text, file.suffix)
        if hashed:
            digest = hashlib.sha256(unfinished.read_bytes()).hexdigest()[:8]
            file = file.with_name(f'{file.stem}-{digest}{file.suffix}')
            _refuse_existing(file, force)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
    return file


def _refuse_existing(file: Path, force: bool) -> None:
    if file.exists() and not force:
        raise FileExistsError(f'{file} is already there; --force overwrites it')


def _write(file: Path, tensors: dict[str, Tensor], meta: str, suffix: str) -> None:
    if suffix == '.safetensors':
        metadata = dict(format='pt', meta=meta)
        # Not save_file, whose files nobody else may read.
        file.write_bytes(_safetensors(file).torch.save(tensors, metadata))
    else:
        # Through JSON, so that both kinds of file give back the same. By an open file: given a
        # path, torch writes its name into the archive, and equal weights would differ in a hash.
        with open(file, 'wb') as opened:
            torch.save(dict(meta=json.loads(meta), state_dict=tensors), opened)
