"""Image files of the command line: files and folders -> the files."""

from collections.abc import Sequence
from pathlib import Path

from .data_check import IMAGE_SUFFIXES


def find_images(paths: Sequence[str]) -> list[Path]:
    """Files as given, folders with all images below them, in order of name.

    Raises:
        FileNotFoundError: a path that does not exist, or no image in any.
    """
    files = []
    for path in map(Path, paths):
        if path.is_dir():
            below = (p for p in sorted(path.rglob('*')) if p.suffix.lower() in IMAGE_SUFFIXES)
            files.extend(below)
        elif path.is_file():
            files.append(path)
        else:
            raise FileNotFoundError(f'no image or folder {path}')
    if not files:
        raise FileNotFoundError(f'no image ({", ".join(IMAGE_SUFFIXES)}) in {", ".join(paths)}')
    return files
