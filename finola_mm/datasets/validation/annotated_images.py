"""Are the image files those that an annotation file speaks of?"""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from .annotation_problems import TOLERATED, Problem

EXIF_ORIENTATION, TURNED = 274, (5, 6, 7, 8)  # the tag, and its values that swap the two sides


def check_image(record: dict, folder: Path) -> str | None:
    """What is wrong with the file of one image record; None: nothing, as far as its head tells."""
    path = Path(folder, record['file_name'])
    if not path.is_file():
        return f'{path} is missing'
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(EXIF_ORIENTATION) in TURNED
            size = image.size[::-1] if turned else image.size
    except Exception as error:  # each format has its own way to fail
        return f'{path} cannot be read as an image ({error})'
    recorded = (record['width'], record['height'])
    if size != recorded:
        why = ', turned by its EXIF orientation' if turned else ''
        return (
            f'{path} is {size[0]} x {size[1]}{why}, and the annotation file has '
            f'{recorded[0]} x {recorded[1]}'
        )
    return None


def sample_images(
    images: list[dict], folder: Path, *, number: int = 100, tolerated: float = TOLERATED
) -> Iterator[Problem]:
    """The findings in ``number`` of the image files, evenly spaced in the list."""
    step = max(1, -(-len(images) // number))
    chosen = images[::step]
    wrong = [text for record in chosen if (text := check_image(record, folder))]
    if wrong:
        yield Problem(
            len(wrong) / len(chosen) > tolerated,
            f'{len(wrong)} of {len(chosen)} images that were looked at are not as annotated: '
            f'{"; ".join(wrong[:2])}. Put the images there, name their folder by data_prefix, or '
            'remove the records; tools/check/coco.py looks at every image',
        )
