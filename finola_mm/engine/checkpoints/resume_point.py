"""Find the checkpoint from which a run resumes; start reading at ``find_resume_point``.

MMEngine's ``--resume`` takes the file that ``last_checkpoint`` names, and fails if it is damaged.
Here only the file itself is checked. Whether it fits the model is checked when it is loaded, by
``StrictResumeHook``; a checkpoint of another model ends the run.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ...errors import CheckpointError, UserError
from .checkpoint_file import SUFFIXES, read_checkpoint
from .published_weights import PUBLISHED, find_published

REQUIRED = ('meta', 'message_hub', 'optimizer')  # entries required to resume, besides the weights
# Names of training checkpoints: CheckpointHook's, and InterruptionHook's.
TRAINING = re.compile(r'(epoch_\d+|iter_\d+|interrupted)\.pth')


class ResumePoint(NamedTuple):
    """A checkpoint to resume from, and one line for each later one that was skipped."""

    path: str
    skipped: list[str]


def find_resume_point(
    resume: str | bool | None, load_from: str | None, work_dir: str
) -> ResumePoint | None:
    """Find the checkpoint from which a run resumes; None: the run starts from the beginning.

    Args:
        resume (str | bool | None): The value of ``--resume``, a file, a work directory or 'auto';
            or the entry ``resume`` of a config, where True stands for ``load_from`` or 'auto'.
        load_from (str | None): The entry of the config.
        work_dir (str): The run's own work directory, which 'auto' searches.
    """
    if not resume:
        return None
    path = load_from if resume is True else resume
    if path in (None, 'auto'):
        return find_latest_valid_checkpoint(work_dir)
    if Path(path).is_dir() and (latest := find_latest_valid_checkpoint(path)):
        return latest
    file = find_checkpoint(path)  # raises if the folder has no checkpoint
    check_resumable(file)
    return ResumePoint(file, [])


def find_latest_valid_checkpoint(folder: str | Path) -> ResumePoint | None:
    """Find the newest undamaged training checkpoint of a work directory; None if it has none.

    Only files named ``epoch_N.pth``, ``iter_N.pth`` or ``interrupted.pth`` and the one that
    ``last_checkpoint`` names are considered.
    """
    folder = Path(folder)
    skipped: list[str] = []
    record = folder / 'last_checkpoint'
    if record.is_file() and read_last_checkpoint(folder) is None:
        name = record.read_text(errors='replace').strip()
        skipped.append(f'{record} names {name}, which does not exist')
    files = newest_first(folder)
    for i, file in enumerate(files):
        try:
            check_resumable(file)
        except CheckpointError as error:
            skipped.append(str(error))
        else:
            later = max(files[i + 1 :], key=partial(_later_by_name, file), default=file)
            if file != read_last_checkpoint(folder) and _later_by_name(file, later) > 0:
                skipped.append(
                    f'{later} is of a later iteration than {file.name}, but not a newer file; to '
                    'resume from it, pass --resume FILE'
                )
            return ResumePoint(str(file), skipped)
    if skipped:
        raise CheckpointError(
            f'no checkpoint in {folder} can be used to resume: {"; ".join(skipped)}. Restore one, '
            'for example by mounting its disk, or start again without --resume, in another '
            '--work-dir'
        )
    return None


def newest_first(folder: Path) -> list[Path]:
    """Sort the training checkpoints of a work directory.

    The one that ``last_checkpoint`` names comes first. Only files that are both newer and of a
    later iteration come before it: the run was then killed before it updated ``last_checkpoint``.
    Modification times alone are misleading in a copied folder, and iterations alone in a run
    resumed from an old checkpoint. Without ``last_checkpoint``, or if the file it names is gone,
    only the modification times count.
    """
    files = [file for file in folder.glob('*.pth') if TRAINING.fullmatch(file.name)]
    files.sort(key=_mtime, reverse=True)
    last = read_last_checkpoint(folder)
    if last is None:
        return files
    files = [file for file in files if file != last]
    newer = [file for file in files if _mtime(file) > _mtime(last)]
    newer = [file for file in newer if _iteration(file) > _iteration(last)]
    return [*newer, last, *(file for file in files if file not in newer)]


def _later_by_name(file: Path, other: Path) -> int:
    """Return by how much the number of ``other`` exceeds that of ``file``; 0 for other names."""
    (name, _, number), (other_name, _, other_number) = (
        path.stem.partition('_') for path in (file, other)
    )
    comparable = name == other_name and number.isdecimal() and other_number.isdecimal()
    return int(other_number) - int(number) if comparable else 0


def _mtime(file: Path) -> int:
    return file.stat().st_mtime_ns


def _iteration(file: Path) -> float:
    """Return the iteration of a checkpoint; infinity for a damaged file, so that it is reported."""
    try:
        with _storage_errors(file):
            iteration = read_checkpoint(file).get('meta', {}).get('iter')
    except CheckpointError:
        return math.inf
    return iteration if isinstance(iteration, int) else math.inf


def check_resumable(file: str | Path) -> None:
    """Read a checkpoint in full and verify that a run can resume from it.

    Raises:
        CheckpointError: it is missing, damaged, or not a training checkpoint.
        UserError: the storage failed (OSError); the checkpoint may be valid.
        RuntimeError, MemoryError: as in ``read_checkpoint``.
    """
    with _storage_errors(file):
        checkpoint = read_checkpoint(file)
    validate_training_checkpoint(checkpoint, file)


def validate_training_checkpoint(checkpoint: dict, path: str | Path) -> None:
    """Reject a file that contains weights but no training state."""
    missing = [entry for entry in REQUIRED if entry not in checkpoint]
    if missing:
        raise CheckpointError(
            f'{path} cannot be used to resume: it has no entry {", ".join(missing)}. To start from '
            'its weights instead, use --cfg-options load_from=...'
        )


@contextmanager
def _storage_errors(file: str | Path) -> Iterator[None]:
    """Raise instead of skipping a file that may be valid: skipping it would lose training."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f'{file} cannot be read at the moment ({error.strerror or error}), but it may be '
            'valid. Try again, or resume from an earlier checkpoint with --resume FILE'
        ) from None


def find_checkpoint(path: str | Path) -> str:
    """Return a file, unread: ``path``, the last one of a work directory, or published weights."""
    if '://' in str(path):
        raise CheckpointError(f'{path} is not a file on this machine; download it first')
    expanded = Path(path).expanduser()
    if expanded.is_file():
        return str(path) if Path(path).is_file() else str(expanded)
    last = read_last_checkpoint(expanded)
    if last is not None:
        return str(last)
    if str(path) in PUBLISHED:
        return str(find_published(str(path)))
    folder = expanded if expanded.is_dir() else expanded.parent
    if not folder.is_dir():
        raise CheckpointError(f'no checkpoint {path}; there is no folder {folder}')
    files = ', '.join(sorted(str(file) for file in folder.iterdir() if file.suffix in SUFFIXES))
    message = f'no checkpoint {path}; {folder} contains {files or "no " + " or ".join(SUFFIXES)}'
    if expanded.name == str(path):  # perhaps a misspelt name
        message += f'. The names of published weights are {", ".join(PUBLISHED)}'
    raise CheckpointError(message)


def read_last_checkpoint(folder: Path) -> Path | None:
    """Return the file that ``last_checkpoint`` names, if it exists.

    A file of this name in ``folder`` takes precedence: the folder may have been moved or copied.
    """
    try:
        named = Path((folder / 'last_checkpoint').read_text(errors='replace').strip())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return next((file for file in (folder / named.name, named) if file.is_file()), None)
