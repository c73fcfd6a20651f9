"""Which files are images: one rule for training, evaluation and all tools.

Below a folder, an image is a file whose suffix is in ``IMAGE_SUFFIXES``, in upper or lower case.
Hidden files and folders, whose names begin with a dot, are left out. Links are followed, except
those to a folder that contains them. Files named on a command line or in a list are always read.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine.fileio import get_file_backend
from mmengine.logging import print_log

from ..errors import UserError, list_names

# The formats that OpenCV decodes with its default settings; OpenEXR must be enabled.
IMAGE_SUFFIXES = (
    '.jpg', '.jpeg', '.jpe', '.jfif', '.mpo', '.jp2', '.j2k', '.j2c', '.jpc', '.jpf', '.jpx',
    '.png', '.apng', '.webp', '.avif', '.avifs', '.gif', '.bmp', '.dib', '.tif', '.tiff',
    '.ppm', '.pgm', '.pbm', '.pnm', '.pam', '.pxm', '.pfm', '.sr', '.ras', '.hdr', '.pic',
)  # fmt: skip


def find_images(paths: Sequence[str]) -> list[Path]:
    """List the given files, and all images below the given folders, sorted by name.

    Raises:
        UserError: a path does not exist, or a folder contains no image.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            files += (path / name for name in list_images(path))
        elif path.is_file():
            files.append(path)
        else:
            raise UserError(f'{path} does not exist. Pass an image or a folder of images.')
    return files


def list_images(folder: str | Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> list[str]:
    """List the images below a folder, relative to it, sorted by name; log what is left out.

    Raises:
        UserError: the folder contains no image, or cannot be read.
    """
    images, others = [], Counter[str]()
    for path, kind in scan(folder):
        if kind == 'file' and path.lower().endswith(tuple(suffixes)):
            images.append(path)
        elif kind != 'folder':
            suffix = os.path.splitext(path)[1].lower() or 'without suffix'
            others[suffix if kind == 'file' else kind] += 1
    left_out = list_names((f'{n} {kind}' for kind, n in others.most_common()), limit=10)
    if not images:
        raise UserError(
            f'{folder} contains no image that OpenCV can read (.jpg, .png, ...); found '
            f'{left_out or "no file"}. Choose a folder with images, or convert them.'
        )
    if left_out:
        print_log(f'{folder}: left out {left_out}', logger='current', level=logging.WARNING)
    return sorted(images)


def list_classes(folder: str | Path) -> list[str]:
    """List the class folders, in the order of their labels."""
    return sorted(path for path, kind in scan(folder, recursive=False) if kind == 'folder')


def scan(
    folder: str | Path, *, recursive: bool = True, above: Sequence[str] = ()
) -> Iterator[tuple[str, str]]:
    """Yield (path relative to ``folder``, kind) of everything outside hidden folders.

    kind: 'folder', 'file', or why the entry is left out, such as 'hidden'.
    above: real paths of the folders through which the scan came here.
    """
    above = [*above, os.path.realpath(folder)]
    for name, kind in _list_entries(str(folder)):
        if name.startswith('.'):
            yield name, 'hidden'
        elif kind != 'folder':
            yield name, kind
        elif os.path.realpath(os.path.join(folder, name)) in above:
            yield name, 'linked in a circle'
        else:
            yield name, 'folder'
            inner = scan(os.path.join(folder, name), above=above) if recursive else ()
            yield from ((f'{name}/{path}', kind) for path, kind in inner)


def _list_entries(folder: str) -> list[tuple[str, str]]:
    """Return the name and kind of the entries of a local or remote folder."""
    if '://' in folder:
        names_of = get_file_backend(folder, enable_singleton=True).list_dir_or_file
        folders, files = names_of(folder, list_file=False), names_of(folder, list_dir=False)
        return [(name, 'folder') for name in folders] + [(name, 'file') for name in files]
    try:
        return [(entry.name, _get_kind(entry)) for entry in os.scandir(folder)]
    except OSError as error:
        raise UserError(f'cannot list {folder} ({error.strerror}); check permissions') from error


def _get_kind(entry: os.DirEntry) -> str:
    try:
        return 'folder' if entry.is_dir() else 'file' if entry.is_file() else 'not a regular file'
    except OSError:  # a link to itself
        return 'not a regular file'


def evenly_spaced(length: int, count: int | None) -> Sequence[int]:
    """Return ``count`` evenly spaced indices below ``length``, or all indices if there are no more.

    From data sorted by class, this selects about the same number of samples of each class.
    """
    if count is None or count >= length:
        return range(length)
    return [i * length // count for i in range(count)]
