"""Find mistakes in COCO annotations that would end in wrong labels or an AP of 0.

COCO loaders silently skip what they cannot use: objects of unknown categories or images, and boxes
without area. mmdet's CocoDataset takes the order of the classes from the file, not from the config,
and a class missing in the file shifts the labels of those after it. Every problem shows the value
seen and the remedy.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ...errors import list_names
from .annotation_file import short

# Tolerated share of wrong boxes or images, equal to max_bad_share of SeededDataset. COCO's own
# files contain some boxes without area.
TOLERATED = 0.01
# Fields whose values must be unique.
UNIQUE = {'images': ('id', 'file_name'), 'annotations': ('id',), 'categories': ('id', 'name')}
SLACK = 1.0  # pixels by which a box may exceed the image: coordinates are rounded


class Problem(NamedTuple):
    """A mistake in a data set; with a fatal one the run must not start."""

    fatal: bool
    text: str


def find_problems(content: dict[str, list[dict]], classes: Sequence[str]) -> Iterator[Problem]:
    """Yield the problems of a file's records for a model of these classes.

    Args:
        content (dict): From :func:`read_annotations`.
        classes (Sequence[str]): The config's class names, in the order of the labels.
    """
    images, annotations, categories = (content[name] for name in UNIQUE)
    for name, fields in UNIQUE.items():
        for field in fields:
            yield from _duplicates(name, field, content[name])
    yield from _class_problems(classes, [category['name'] for category in categories])
    if isinstance(classes, str):
        return
    yield from _unknown('category_id', annotations, categories, 'categories')
    yield from _unknown('image_id', annotations, images, 'images')
    wanted = {category['id'] for category in categories if category['name'] in classes}
    if not any(a['category_id'] in wanted for a in annotations):
        yield Problem(
            True,
            f'none of the {len(annotations)} annotations is an object of a class of the config. '
            'Annotate objects, or correct the classes',
        )
    yield from _box_problems(images, annotations)


def _duplicates(name: str, field: str, records: list[dict]) -> Iterator[Problem]:
    counts = Counter(record[field] for record in records)
    repeated = [f'{value!r} ({n} times)' for value, n in counts.items() if n > 1]
    if repeated:
        yield Problem(
            True, f'{name} with the same {field}: {list_names(repeated)}. Each must occur once'
        )


def _class_problems(classes: Sequence[str], names: list[str]) -> Iterator[Problem]:
    """classes: the config's; names: of the file's categories, in its order."""
    remedy = (
        f'Set classes=({", ".join(map(repr, names))},), the order of the file, in the metainfo of '
        f'every data set, and num_classes={len(names)} in the model'
    )
    if isinstance(classes, str):  # such as ('person') without a comma
        yield Problem(True, f'classes is the text {classes!r}, not a tuple of names. {remedy}')
        return
    missing = [name for name in classes if name not in names]
    unused = [name for name in names if name not in classes]
    if missing:
        yield Problem(
            True,
            f'{len(missing)} of the {len(classes)} classes of the config are not in the file: '
            f'{_list(missing)}. {remedy}',
        )
        return
    if [name for name in names if name in classes] != list(classes):
        yield Problem(
            True,
            'the classes of the config are in another order than in the file, so labels would get '
            f'wrong names. {remedy}',
        )
    if unused:
        yield Problem(
            False,
            f'{len(unused)} categories are not classes of the config, and their objects count as '
            f'background: {_list(unused)}',
        )


def _unknown(
    field: str, annotations: list[dict], records: list[dict], name: str
) -> Iterator[Problem]:
    known = {record['id'] for record in records}
    counts = Counter(a[field] for a in annotations if a[field] not in known)
    if not counts:
        return
    used = {a[field] for a in annotations}
    hints: dict[str, Callable] = {
        'They match with 1 added': lambda x: x + 1,
        'They match with 1 subtracted': lambda x: x - 1,
        'They match as numbers': int,
        'They match as text': str,
    }
    fits = [text for text, change in hints.items() if _all_in(used, change, known)]
    remedy = f'{fits[0]}: correct every {field}' if fits else f'Remove them, or add their {name}'
    yield Problem(
        True,
        f'{sum(counts.values())} of {len(annotations)} annotations have a {field} that none of '
        f'the {name} has: {_list(counts)} ({name} have {_list(r["id"] for r in records)}). '
        f'{remedy}',
    )


def _all_in(used: set, change: Callable, known: set) -> bool:
    try:
        return {change(value) for value in used} <= known
    except (TypeError, ValueError):  # values of another type, not off by one
        return False


def _list(values: Iterable) -> str:
    return list_names(map(repr, values), limit=5)


def _box_problems(images: list[dict], annotations: list[dict]) -> Iterator[Problem]:
    sides = {image['id']: (image['width'], image['height']) for image in images}
    used = [a for a in annotations if a['image_id'] in sides]
    if not used:
        return
    boxes = _as_array([a['bbox'] for a in used])
    if boxes is None:
        wrong = next(a for a in used if _as_array([a['bbox']]) is None)
        yield Problem(
            True,
            f'annotation {wrong["id"]!r} has the bbox {short(wrong["bbox"])}; correct it to four '
            'finite numbers x, y, width, height',
        )
        return
    x, y, w, h = boxes.T
    width, height = np.array([sides[a['image_id']] for a in used], float).T
    outside = (np.minimum(x + w, width) <= np.maximum(x, 0)) | (
        np.minimum(y + h, height) <= np.maximum(y, 0)
    )
    no_area = np.array([a['area'] for a in used], float) <= 0
    empty = (w < 1) | (h < 1) | no_area | outside  # what mmdet's CocoDataset skips
    over = (np.minimum(x, y) < -SLACK) | (x + w > width + SLACK) | (y + h > height + SLACK)
    corners = (w > x) & (h > y) & (w <= width + SLACK) & (h <= height + SLACK)
    if over.mean() > TOLERATED and corners.mean() > 1 - TOLERATED:
        hint = ' They fit as x1, y1, x2, y2: write width and height instead of x2, y2.'
    elif np.abs(boxes).max() <= 1:
        hint = ' They look like fractions of the image: write pixels.'
    else:
        hint = ' Correct or remove them; COCO boxes are x, y, width, height in pixels.'
    for wrong, what in (
        (empty, 'have no area inside the image, or less than 1 pixel, and are skipped in training'),
        (over & ~empty, 'exceed the image'),
    ):
        places = np.flatnonzero(wrong)
        if len(places):
            fatal = len(places) / len(wrong) > TOLERATED
            examples = '; '.join(
                f'annotation {used[i]["id"]!r}: {boxes[i].tolist()} in an image of '
                f'{width[i]:g} x {height[i]:g}'
                for i in places[:2]
            )
            text = f'{len(places)} of {len(wrong)} boxes {what}: {examples}.'
            yield Problem(fatal, text + hint * fatal)


def _as_array(boxes: list) -> np.ndarray | None:
    """The boxes as (n, 4) float64; None if any of them is not four finite numbers."""
    try:
        array = np.array(boxes, float)
    except (TypeError, ValueError):
        return None
    return array if array.shape == (len(boxes), 4) and np.isfinite(array).all() else None
