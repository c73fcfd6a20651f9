"""From which checkpoint of a work directory does a run go on?"""

import errno
import math
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from .checkpoint_file import UNREADABLE, ZIP, CheckpointError, damaged, read_checkpoint
from .find_checkpoint import find_checkpoint, last_checkpoint

OF_A_RUN = ('meta', 'message_hub', 'optimizer')  # besides the weights, what a resume needs
# The names of a run's checkpoints: CheckpointHook's, and InterruptionHook's without a number.
TRAINING = re.compile(r'(epoch_|iter_|interrupted)(\d*)\.pth')
# What Python's zipfile meets in a damaged archive. RuntimeError: it takes a part to be encrypted.
BAD_ARCHIVE = (*UNREADABLE, RuntimeError, zipfile.BadZipFile, zlib.error)


class ResumePoint(NamedTuple):
    """A checkpoint to go on from, and why newer ones were passed over, a line for each."""

    path: str
    skipped: list[str]


def find_latest_valid_checkpoint(folder: str | Path) -> ResumePoint | None:
    """The newest checkpoint of a work directory that is whole; None where there was never one.

    Raises:
        CheckpointError: there are some, and not one can be read.
        FileNotFoundError: ``last_checkpoint`` names one that is gone, and there is no other.
        OSError: one cannot be read now, and may be good; the message is one line.
    """
    files = newest_first(Path(folder))
    skipped: list[str] = []
    for file in files:
        try:
            check_resumable(file)
        except (CheckpointError, FileNotFoundError) as error:
            skipped.append(str(error))
        else:
            return ResumePoint(str(file), skipped)
    if not files:
        begun = Path(folder, 'last_checkpoint').is_file()
        return ResumePoint(find_checkpoint(str(folder)), []) if begun else None
    raise CheckpointError(
        f'none of the {len(files)} checkpoints in {folder} can be resumed: '
        + '; '.join(skipped)
        + '. Start anew without --resume, in another --work-dir'
    )


def newest_first(folder: Path) -> list[Path]:
    """The training checkpoints of a work directory.

    What ``last_checkpoint`` names comes first. Only one that is both later and further goes before
    it: a run was killed after it wrote that one and before it wrote down the name.
    """
    files = [file for file in folder.glob('*.pth') if TRAINING.fullmatch(file.name)]
    files.sort(key=_time, reverse=True)
    last = last_checkpoint(folder)
    if last is None:
        return files
    before = [file for file in files if file != last and _follows(file, last)]
    return [*before, last, *(file for file in files if file != last and file not in before)]


def _follows(file: Path, last: Path) -> bool:
    if _time(file) <= _time(last):
        return False
    (unit, number), named = TRAINING.fullmatch(file.name).groups(), TRAINING.fullmatch(last.name)
    if named and unit == named[1] and number and named[2]:
        return int(number) > int(named[2])
    return _iterations(file) > _iterations(last)


def _iterations(file: Path) -> float:
    """How many the run had made; of a damaged one infinitely many, so that it comes up."""
    try:
        with _storage(file):
            made = read_checkpoint(file).get('meta', {}).get('iter')
    except (CheckpointError, FileNotFoundError):
        return math.inf
    return made if isinstance(made, int) else math.inf


def _time(file: Path) -> int:
    return file.stat().st_mtime_ns


def check_resumable(file: str | Path) -> None:
    """Read a whole checkpoint as a resume will, its checksums too.

    Raises:
        CheckpointError: torn, changed, or not of a run; the message is one line.
        FileNotFoundError: no such file.
        OSError: the storage failed; the message is one line.
    """
    with _storage(file):
        checkpoint = read_checkpoint(file)
        _compare_checksums(Path(file))
    validate_training_checkpoint(checkpoint, file)


@contextmanager
def _storage(file: str | Path) -> Iterator[None]:
    """Around the reading: to pass over a good checkpoint because of a bad moment costs a run."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise OSError(
            f'{file} cannot be read now ({error.strerror or error}) and may be good: try again, or '
            'go on from an earlier one by --resume FILE'
        ) from None


def _compare_checksums(file: Path) -> None:
    """Those of a zip archive's parts, which torch does not look at."""
    with open(file, 'rb') as opened:
        if opened.read(len(ZIP)) != ZIP:
            return
    try:
        with zipfile.ZipFile(file) as archive:
            changed = archive.testzip()
    except OSError as error:
        if error.errno != errno.EINVAL:  # a seek to before the start
            raise
        raise damaged(file, error) from None
    except BAD_ARCHIVE as error:
        raise damaged(file, error) from None
    if changed:
        raise CheckpointError(f'{file} is damaged: the checksum of its part {changed} is wrong')


def validate_training_checkpoint(checkpoint: dict, path: str | Path) -> None:
    """Refuse a file of weights alone.

    Raises:
        CheckpointError: an entry that a resume needs is not there.
    """
    lacking = [entry for entry in OF_A_RUN if entry not in checkpoint]
    if lacking:
        raise CheckpointError(
            f'{path} cannot be resumed: it has no entry {", ".join(lacking)}. Start from its '
            'weights by --cfg-options load_from=... instead'
        )
