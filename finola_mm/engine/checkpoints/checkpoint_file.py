"""Checkpoint files: read without running code, written atomically.

``read_checkpoint`` admits only tensors, plain values and the classes that MMEngine's training
checkpoints contain (``unpickler``). MMEngine writes a checkpoint directly to its final path, so a
kill or a full disk leaves a truncated file; ``atomic_write`` leaves either the old file or the
complete new one.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import platform
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.runner import CheckpointLoader
from torch import Tensor

from ...errors import CheckpointError, UserError
from . import unpickler
from .published_weights import PUBLISHED, find_published

SUFFIXES = ('.pth', '.safetensors')
TRUST = 'FINOLA_TRUST_CHECKPOINTS'  # environment variable; 1: unpickle everything
ZIP = b'PK\x03\x04'  # the first bytes of a torch.save file; before torch 1.6 it was a bare pickle
CORRUPTED = re.compile('PytorchStreamReader|inline_container|corrupted')  # in torch's errors
TMP = '.unfinished'  # suffix of a file that is being written
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
# The entries of a checkpoint's ``meta`` that ``checkpoint_metadata`` reads.
METADATA = dict(
    source=str,
    epoch=int,
    iter=int,
    encoder=dict,
    normalization=dict,
    input_size=int,
    dataset_meta=dict,
)


def register_checkpoint_io() -> None:
    """Read local checkpoints without running code and write them atomically, in this process.

    MMEngine's own loader falls back to full unpickling, and its local backend writes directly to
    the final path. The tools and ``AtomicCheckpointHook`` call this; importing ``finola_mm`` does
    not. Calling it again has no effect.
    """
    CheckpointLoader.register_scheme(prefixes='', loader=read_checkpoint, force=True)
    register_backend('local', AtomicLocalBackend, prefixes='', force=True)


def read_checkpoint(path: str | Path, map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a ``.safetensors`` or ``torch.save`` file and verify its checksums.

    ``FINOLA_TRUST_CHECKPOINTS=1`` admits all objects, and the entry ``config`` of ``meta``, which
    MMEngine executes on resume.

    Args:
        path (str | Path): The file, or the name of published weights.
        map_location (Any): As in ``torch.load``. Defaults to 'cpu'.

    Returns:
        dict: The content; for ``.safetensors`` the entries ``state_dict`` and ``meta``.

    Raises:
        CheckpointError: the file is missing, damaged, not a checkpoint, or contains objects that
            are neither tensors nor plain values.
        OSError, RuntimeError, MemoryError: the storage or the device failed; the file may be valid.
    """
    file = Path(path).expanduser()
    if not file.is_file() and str(path) in PUBLISHED:
        file = find_published(str(path))
    if not file.is_file():
        hint = '; download it first' if '://' in str(path) else ''
        raise CheckpointError(f'there is no checkpoint file {path}{hint}')
    is_safetensors = file.suffix == '.safetensors'
    checkpoint = (_read_safetensors if is_safetensors else _read_pickle)(file, map_location)
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f'{file} contains one object of type {type(checkpoint).__name__}; expected a dict of '
            'tensors, or a dict with an entry state_dict'
        )
    for name in ('state_dict', 'meta'):
        if not isinstance(checkpoint.get(name, {}), dict):
            found = type(checkpoint[name]).__name__
            raise CheckpointError(f'{file}: the entry {name} is of type {found}; expected a dict')
    if not _trusted():
        checkpoint.get('meta', {}).pop('config', None)
    return checkpoint


def checkpoint_metadata(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of a checkpoint's run; files written by other tools may lack entries.

    source: name of the run's config; epoch, iter: training progress; encoder: config of the
    backbone; normalization: mean, std and to_rgb of the images; input_size: their side in
    validation; dataset_meta: class names, palette.
    """
    meta = checkpoint.get('meta', {})
    return {name: meta[name] for name, kind in METADATA.items() if isinstance(meta.get(name), kind)}


def _trusted() -> bool:
    return os.environ.get(TRUST) == '1'


def _read_pickle(file: Path, map_location: Any) -> Any:
    with open(file, 'rb') as opened:
        head = opened.read(16)
    archive = head.startswith(ZIP)
    # torch would also read a tar file, in which torch 0.1 saved tensors.
    if not (archive or head.startswith(b'\x80')) or (not archive and tarfile.is_tarfile(file)):
        found = f'begins with {head!r}' if head else 'is empty'
        raise CheckpointError(
            f'{file} is not a torch.save file: it {found}. Download or copy it again'
        )
    if archive:
        _check_archive(file)
    try:
        if _trusted():
            return torch.load(file, map_location, weights_only=False)
        if archive and 'constants.pkl' in torch._C.PyTorchFileReader(str(file)).get_all_records():
            raise unpickler.RefusedError('a TorchScript module')  # torch.load would build it
        return torch.load(file, map_location, pickle_module=unpickler, weights_only=False)
    except unpickler.RefusedError as error:
        raise CheckpointError(
            f'{file} was not read: it contains {error}, and loading it would run its code. If you '
            f'made this file or trust its source, set {TRUST}=1'
        ) from None
    except Exception as error:
        # Errors that the file does not cause: memory, devices, storage, or a trusted class.
        external = isinstance(error, (OSError, RuntimeError, MemoryError)) or _trusted()
        if external and not CORRUPTED.search(str(error)):
            raise
        raise _damaged(file, error) from None


def _check_archive(file: Path) -> None:
    """Verify the checksums of a zip archive, which torch ignores."""
    try:
        with zipfile.ZipFile(file) as archive:
            part = archive.testzip()
    except Exception as error:  # zipfile raises many types on damaged archives
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: a negative seek
            raise
        raise _damaged(file, error) from None
    if part:
        raise _damaged(file, ValueError(f'checksum mismatch in archive member {part}'))


def _damaged(file: Path, error: Exception) -> CheckpointError:
    # torch appends advice to the reason.
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].partition('. ')[0]
    return CheckpointError(
        f'{file} ({file.stat().st_size} bytes) is damaged or truncated ({reason}). Use an earlier '
        'checkpoint, or download or copy it again'
    )


def _read_safetensors(file: Path, map_location: Any) -> dict[str, Any]:
    try:
        with safetensors.safe_open(file, 'pt', device=str(map_location or 'cpu')) as opened:
            meta = json.loads((opened.metadata() or {}).get('meta', '{}'))
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}
    except (safetensors.SafetensorError, ValueError) as error:  # ValueError: invalid JSON
        raise _damaged(file, error) from None
    return dict(meta=meta, state_dict=tensors)


def write_weights(
    path: str | Path,
    state_dict: dict[str, Tensor],
    *,
    meta: dict[str, Any],
    hashed: bool = False,
    force: bool = False,
) -> Path:
    """Write tensors and plain values to a file that any tool can read; return its path.

    A ``.pth`` file is a dict of ``state_dict`` and ``meta``, readable with ``weights_only=True``.
    A ``.safetensors`` file holds ``meta`` as JSON in its metadata.

    Args:
        path (str | Path): The file; its suffix selects the format.
        state_dict (dict): The tensors.
        meta (dict): Values that JSON can represent.
        hashed (bool): Append the first 8 hex digits of the file's SHA-256 to its name,
            ``name-1a2b3c4d.pth``. Defaults to False.
        force (bool): Overwrite an existing file. Defaults to False.
    """
    file = Path(path)
    if file.suffix not in SUFFIXES:
        raise UserError(f'the file name must end in {" or ".join(SUFFIXES)}, got {file}')
    text = json.dumps(meta)
    tensors = {  # copies: torch.save would write the whole storage of a view
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in state_dict.items()
    }
    if file.suffix == '.safetensors':
        content = safetensors.torch.save(tensors, dict(format='pt', meta=text))
    else:
        # A round trip through JSON, so that both formats return the same values.
        buffer = io.BytesIO()
        torch.save(dict(meta=json.loads(text), state_dict=tensors), buffer)
        content = buffer.getvalue()
    if hashed:
        digest = hashlib.sha256(content).hexdigest()[:8]
        file = file.with_name(f'{file.stem}-{digest}{file.suffix}')
    if file.exists() and not force:
        raise UserError(f'{file} exists; overwrite it with --force')
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(file, content)
    return file


def atomic_write(file: str | Path, content: bytes, *, sync: bool = True) -> None:
    """Write ``content`` to a temporary file next to ``file``, then rename it.

    sync: flush the content and then the folder entry to disk, which takes milliseconds. Even after
        a power failure, the file holds either the complete old or the complete new content.
    """
    file = Path(file)
    # Containers on several machines may share a folder and have identical process IDs.
    tmp = file.with_name(f'.{file.name}.{platform.node()}.{os.getpid()}{TMP}')
    try:
        with open(tmp, 'wb') as opened:
            opened.write(content)
            if sync:
                opened.flush()
                os.fsync(opened.fileno())
        tmp.replace(file)
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        record = file.with_name('last_checkpoint')
        last = f'; the last complete checkpoint is {record.read_text()}' if record.is_file() else ''
        raise CheckpointError(
            f'no space left to write {file} ({len(content) / 1e6:.1f} MB needed){last}. Free space '
            'and run the command again (for training, with --resume)'
        ) from None
    finally:
        tmp.unlink(missing_ok=True)
    if not sync:
        return
    with contextlib.suppress(OSError):  # some network file systems do not support fsync on folders
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_stale_tmp(folder: str | Path) -> list[str]:
    """Remove the temporary files of killed processes; return their names."""
    stale = sorted(Path(folder).glob(f'.*{TMP}'))
    for file in stale:
        file.unlink(missing_ok=True)
    return [file.name for file in stale]


class AtomicLocalBackend(LocalBackend):
    """MMEngine's local storage; ``.pth`` files are written by ``atomic_write``."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        if Path(filepath).suffix != '.pth':
            return super().put(obj, filepath)
        Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        atomic_write(filepath, obj)
