"""What is wrong with a COCO annotation file, before a run finds an AP of 0.

The loaders of the COCO family leave out in silence what they cannot use: objects of unknown
categories or images, boxes without area. A class that the file lacks shifts the labels of those
after it, and the order of the classes counts in the file, not in the config (mmdet's CocoDataset).
Every finding here shows the value seen and the remedy.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .annotation_file import FIELDS, AnnotationError, short

# Up to this share of boxes or images may be wrong, as in max_bad_share of SeededDataset; COCO's own
# files hold some boxes without area.
TOLERATED = 0.01
SLACK = 1.0  # pixels that a box may stand over the edge: coordinates are rounded
NAMED = 5  # examples of one finding


class Problem(NamedTuple):
    """One finding; a fatal one would make a run wrong, another is worth knowing."""

    fatal: bool
    text: str


class Boxes(NamedTuple):
    """The boxes of a file with the sizes of their images, n of each."""

    xywh: np.ndarray  # (n, 4) float64, pixels
    area: np.ndarray  # (n,) float64, of the objects
    sides: np.ndarray  # (n, 2) float64, width and height of the image
    ids: list  # of the annotations


def find_problems(content: dict[str, list[dict]], classes: Sequence[str]) -> Iterator[Problem]:
    """The findings in a file's records alone, for a model of these classes.

    Args:
        content: What :func:`read_annotations` gives.
        classes: The config's class names, in the order of the labels.
    """
    images, annotations, categories = (content[name] for name in FIELDS)
    for name, records in content.items():
        if name in FIELDS:
            yield from _duplicates(f'{name} have the id', (record['id'] for record in records))
    names = (image['file_name'] for image in images)
    yield from _duplicates('images have the file_name', names)
    yield from _duplicates('categories have the name', (c['name'] for c in categories))
    yield from _class_problems(classes, [category['name'] for category in categories])
    if isinstance(classes, str):
        return
    yield from _unknown('category_id', annotations, categories, 'categories')
    yield from _unknown('image_id', annotations, images, 'images')
    wanted = {category['id'] for category in categories if category['name'] in classes}
    if not any(a['category_id'] in wanted for a in annotations):
        yield Problem(True, f'there is no object of any class among {len(annotations)} annotations')
    yield from _box_problems(images, annotations)


def _duplicates(what: str, values: Iterable) -> Iterator[Problem]:
    counts = {value: n for value, n in Counter(values).items() if n > 1}
    if counts:
        value, n = next(iter(counts.items()))
        more = f', and {len(counts) - 1} more occur more than once' if len(counts) > 1 else ''
        yield Problem(True, f'{n} {what} {value!r}{more}: each must be there once')


def _class_problems(classes: Sequence[str], names: list[str]) -> Iterator[Problem]:
    """classes: the config's; names: those of the file's categories, in its order."""
    remedy = (
        f"The file's are: classes=({', '.join(map(repr, names))},); set them in the metainfo of "
        f'every data set, and num_classes={len(names)} in the model'
    )
    if isinstance(classes, str):  # such as ('person') without a comma
        yield Problem(True, f'classes is the text {classes!r}, not a tuple of names. {remedy}')
        return
    missing = [name for name in classes if name not in names]
    if missing:
        yield Problem(
            True,
            f'{len(missing)} of the {len(classes)} classes of the config are not in the '
            f'file: {_some(missing)}. {remedy}',
        )
    elif [name for name in names if name in classes] != list(classes):
        yield Problem(
            True,
            'the classes of the config stand in another order than in the file, which '
            f'counts: labels would get the names of others. {remedy}',
        )
    left_out = [name for name in names if name not in classes]
    if left_out and not missing:
        yield Problem(
            False,
            f'{len(left_out)} categories are no classes of the config, and their '
            f'objects count as background: {_some(left_out)}',
        )


def _unknown(field: str, annotations: list[dict], records: list[dict], name: str):
    known = {record['id'] for record in records}
    counts = Counter(a[field] for a in annotations if a[field] not in known)
    if not counts:
        return
    used = {a[field] for a in annotations}
    hints: dict[str, Callable] = {
        'They fit with 1 added': lambda x: x + 1,
        'They fit with 1 subtracted': lambda x: x - 1,
        'They fit as numbers': int,
        'They fit as text': str,
    }
    fits = [text for text, change in hints.items() if _all_in(used, change, known)]
    remedy = f'{fits[0]}: mend every {field}' if fits else f'Remove them, or add their {name}'
    yield Problem(
        True,
        f'{sum(counts.values())} of {len(annotations)} annotations have a {field} that '
        f'none of the {name} has, among them {_some(counts)} ({name} have '
        f'{_some(record["id"] for record in records)}). {remedy}',
    )


def _all_in(used: set, change: Callable, known: set) -> bool:
    try:
        return {change(value) for value in used} <= known
    except (TypeError, ValueError):  # of another kind, not off by one
        return False


def _some(values: Iterable) -> str:
    """The first values, and how many more there are."""
    values = list(values)
    more = f' and {len(values) - NAMED} more' if len(values) > NAMED else ''
    return ', '.join(repr(value) for value in values[:NAMED]) + more


# ------------------------------------------------------------------------------------- boxes
def _box_problems(images: list[dict], annotations: list[dict]) -> Iterator[Problem]:
    try:
        boxes = _collect(images, annotations)
    except AnnotationError as error:
        yield Problem(True, str(error))
        return
    if not boxes.ids:
        return
    x, y, w, h = boxes.xywh.T
    width, height = boxes.sides.T
    outside = (np.minimum(x + w, width) <= np.maximum(x, 0)) | (
        np.minimum(y + h, height) <= np.maximum(y, 0)
    )
    empty = (w < 1) | (h < 1) | (boxes.area <= 0) | outside  # what mmdet's CocoDataset leaves out
    over = (np.minimum(x, y) < -SLACK) | (x + w > width + SLACK) | (y + h > height + SLACK)
    corners = (w > x) & (h > y) & (w <= width + SLACK) & (h <= height + SLACK)
    if over.mean() > TOLERATED and corners.mean() > 1 - TOLERATED:
        hint = ' They fit as x1, y1, x2, y2: give width and height instead of x2, y2.'
    elif np.abs(boxes.xywh).max() <= 1:
        hint = ' They look like fractions of the image: give pixels.'
    else:
        hint = ' Mend or remove them; COCO boxes are x, y, width, height in pixels.'
    yield from _share(
        empty,
        boxes,
        'have no area inside the image (or are below 1 pixel), and are left out by the loader',
        hint,
    )
    yield from _share(over & ~empty, boxes, 'reach beyond the image', hint)


def _collect(images: list[dict], annotations: list[dict]) -> Boxes:
    """Raises AnnotationError for a box that is not four finite numbers."""
    sides = {image['id']: (image['width'], image['height']) for image in images}
    used = [a for a in annotations if a['image_id'] in sides]
    try:
        xywh = np.array([a['bbox'] for a in used], float).reshape(-1, 4)
        if len(xywh) != len(used) or not np.isfinite(xywh).all():
            raise ValueError
    except (TypeError, ValueError):
        wrong = next(a for a in used if not _is_box(a['bbox']))
        raise AnnotationError(
            f'annotation {wrong["id"]!r} has the bbox {short(wrong["bbox"])}, which is not four '
            'finite numbers x, y, width, height: mend it'
        ) from None
    return Boxes(
        xywh,
        np.array([a['area'] for a in used], float),
        np.array([sides[a['image_id']] for a in used], float).reshape(-1, 2),
        [a['id'] for a in used],
    )


def _is_box(bbox: Any) -> bool:
    try:
        return len(bbox) == 4 and bool(np.isfinite(np.array(bbox, float)).all())
    except (TypeError, ValueError):
        return False


def _share(wrong: np.ndarray, boxes: Boxes, what: str, hint: str) -> Iterator[Problem]:
    places = np.flatnonzero(wrong)
    if not len(places):
        return
    examples = '; '.join(
        f'annotation {boxes.ids[i]!r}: {boxes.xywh[i].tolist()} in an image of '
        f'{boxes.sides[i, 0]:g} x {boxes.sides[i, 1]:g}'
        for i in places[:2]
    )
    share = len(places) / len(wrong)
    yield Problem(
        share > TOLERATED,
        f'{len(places)} of {len(wrong)} boxes {what}: {examples}.'
        f'{hint if share > TOLERATED else ""}',
    )
