"""Image files among the paths of a command line."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')  # mmpretrain's


def find_images(paths: Sequence[str]) -> list[Path]:
    """List the given files, and all images below the given folders sorted by name.

    Raises:
        UserError: a path does not exist, or there is no image.
    """
    files = []
    for path in map(Path, paths):
        if path.is_dir():
            below = (p for p in sorted(path.rglob('*')) if p.suffix.lower() in IMAGE_SUFFIXES)
            files.extend(below)
        elif path.is_file():
            files.append(path)
        else:
            raise UserError(f'{path} does not exist. Name an image or a folder of images.')
    if not files:
        raise UserError(
            f'{", ".join(paths)} contains no image ({", ".join(IMAGE_SUFFIXES)}). '
            'Name a folder with images.'
        )
    return files
