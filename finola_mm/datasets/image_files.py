"""Find image files in command-line paths, and select evenly spaced subsets."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')  # mmpretrain's


def find_images(paths: Sequence[str]) -> list[Path]:
    """List the given files, and all images below the given folders, sorted by name.

    Raises:
        UserError: a path does not exist, or no image is found.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            files += (p for p in sorted(path.rglob('*')) if p.suffix.lower() in IMAGE_SUFFIXES)
        elif path.is_file():
            files.append(path)
        else:
            raise UserError(f'{path} does not exist. Pass an image or a folder of images.')
    if not files:
        raise UserError(
            f'{", ".join(paths)} contains no image ({", ".join(IMAGE_SUFFIXES)}). '
            'Pass a folder with images.'
        )
    return files


def evenly_spaced(length: int, count: int | None) -> Sequence[int]:
    """Return ``count`` evenly spaced indices below ``length``, or all indices if there are no more.

    From data sorted by class, this selects about the same number of samples of each class.
    """
    if count is None or count >= length:
        return range(length)
    return [i * length // count for i in range(count)]
