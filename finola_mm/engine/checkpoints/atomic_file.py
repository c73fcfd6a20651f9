"""Write a file so that under its name it is either whole or not there.

MMEngine writes a checkpoint straight to its name: a kill or a full disk leaves a torn one, and in
its place nothing.
"""

import contextlib
import errno
import os
from pathlib import Path

from mmengine.fileio import LocalBackend

from .checkpoint_file import CheckpointError

UNFINISHED = '.unfinished'  # how the name of a file ends that is still being written
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def atomic_write(file: str | Path, content: bytes) -> None:
    """Write ``content`` beside ``file``, then put it in its place.

    Both are brought to the disk first, the bytes and then the name: after a power cut, too, the
    name stands for the old content or for all of the new.
    """
    file = Path(file)
    unfinished = file.with_name(f'.{file.name}.{os.getpid()}{UNFINISHED}')
    try:
        with open(unfinished, 'wb') as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
    _bring_names_to_disk(file.parent)


def _bring_names_to_disk(folder: Path) -> None:
    # Some network storage knows no fsync of folders; the file is whole all the same.
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def remove_stale_tmp(folder: str | Path) -> list[str]:
    """Remove what killed processes left of their writing; -> the names."""
    left = sorted(Path(folder).glob(f'.*{UNFINISHED}'))
    for file in left:
        file.unlink(missing_ok=True)
    return [file.name for file in left]


class AtomicLocalBackend(LocalBackend):
    """MMEngine's local storage, with checkpoints written by ``atomic_write``."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes.

        Raises:
            CheckpointError: no space left for a checkpoint; what was there before still is.
        """
        file = Path(filepath)
        if file.suffix != '.pth':
            super().put(obj, filepath)
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            atomic_write(file, obj)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            raise CheckpointError(_no_space(file, len(obj))) from None


def _no_space(file: Path, size: int) -> str:
    try:
        last = f'the last good checkpoint is {Path(file.parent, "last_checkpoint").read_text()}'
    except OSError:
        last = 'no checkpoint was written before'
    return (
        f'no space left to write {file} ({size / 1e6:.1f} MB needed); {last}; free space and '
        'go on with --resume'
    )
