"""Image files: which they are, and those that the files and folders of a command line hold."""

from collections.abc import Sequence
from pathlib import Path

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')  # as mmpretrain reads


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
