"""Compare image files with their records in a COCO annotation file."""

from collections.abc import Iterator
from pathlib import Path

from PIL import ExifTags, Image

from ..sampling import evenly_spaced
from .annotation_problems import TOLERATED, Problem

SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


def check_image(record: dict, folder: Path) -> str | None:
    """Compare an image file's header with its record; the mismatch as a text, or None."""
    path = Path(folder, record['file_name'])
    if not path.is_file():
        return f'{path} is missing'
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS
            size = image.size[::-1] if turned else image.size
    except Exception as error:  # the exception type depends on the format
        return f'{path} cannot be read as an image ({error})'
    recorded = (record['width'], record['height'])
    if size == recorded:
        return None
    why = ' by its EXIF orientation' if turned else ''
    return (
        f'{path} is {size[0]} x {size[1]}{why}, but its annotation record says '
        f'{recorded[0]} x {recorded[1]}'
    )


def sample_images(
    images: list[dict], folder: Path, *, number: int = 100, tolerated: float = TOLERATED
) -> Iterator[Problem]:
    """Check ``number`` evenly spaced image files; yield a problem if any does not match."""
    chosen = [images[i] for i in evenly_spaced(len(images), number)]
    wrong = [text for record in chosen if (text := check_image(record, folder))]
    if wrong:
        yield Problem(
            len(wrong) / len(chosen) > tolerated,
            f'{len(wrong)} of {len(chosen)} images checked do not match their annotation records: '
            f'{"; ".join(wrong[:2])}. Put the images there, name their folder by data_prefix, or '
            'remove the records; tools/check/coco.py checks every image',
        )
