"""Read a COCO annotation file, and find mistakes that would cause wrong labels or an AP of 0.

COCO loaders silently skip unusable annotations: objects of unknown categories or images, and boxes
without area. mmdet's CocoDataset takes the order of the classes from the file, not from the config,
and a class missing from the file shifts the labels of the classes after it. Every problem states
the value seen and the remedy.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...errors import UserError, list_names

FIELDS = {
    'images': ('id', 'file_name', 'height', 'width'),
    'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd'),
    'categories': ('id', 'name'),
}
# Required types of some fields; ids may be strings.
TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(('id', 'image_id', 'category_id'), ((int, float, str), 'a number')),
    **dict.fromkeys(('height', 'width', 'area', 'iscrowd'), ((int, float), 'a number')),
    **dict.fromkeys(('file_name', 'name'), ((str,), 'a string')),
}
# Fields that other tools often omit, and the value to write.
REMEDIES = {
    'area': "without masks, area is the box's width times its height",
    'iscrowd': 'iscrowd is 0 for a single object',
}
# Tolerated share of wrong boxes or images, equal to max_bad_share of SeededDataset. COCO's own
# files contain some boxes without area.
TOLERATED = 0.01
# Fields whose values must be unique.
UNIQUE = {'images': ('id', 'file_name'), 'annotations': ('id',), 'categories': ('id', 'name')}
SLACK = 1.0  # pixels by which a box may exceed the image: coordinates are rounded


class Problem(NamedTuple):
    """A mistake in a data set; if it is fatal, the run must not start."""

    fatal: bool
    text: str


def read_annotations(file: str | Path) -> dict[str, list[dict]]:
    """Read a COCO file as lists of records that have all required fields.

    Raises:
        UserError: the file is missing, is not JSON, or has a different structure.
    """
    file = Path(file)
    if not file.is_file():
        others = list_names(sorted(file.parent.glob('*.json'))) or 'none'
        raise UserError(
            f'the annotation file {file} does not exist; other .json files there: {others}. '
            'Correct ann_file.'
        )
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:  # of JSON or of the encoding
        raise UserError(
            f'{file} is not a complete JSON file in UTF-8 ({error}). Export or copy it again.'
        ) from None
    if not isinstance(content, dict) or not FIELDS.keys() <= content.keys():
        held = sorted(content) if isinstance(content, dict) else f'a {type(content).__name__}'
        raise UserError(
            f'{file} is not a COCO annotation file: it contains {held}, but must contain images, '
            'annotations and categories'
        )
    for name in FIELDS:
        if not isinstance(content[name], list):
            raise UserError(f'{file}: {name} must be a list of records, got {short(content[name])}')
        for i, record in enumerate(content[name]):
            _check_record(record, name, f'{file}: {name}[{i}]')
    return content


def _check_record(record: Any, name: str, place: str) -> None:
    if not isinstance(record, dict):
        raise UserError(f'{place} must be a record of fields, got {short(record)}')
    missing = []
    for field in FIELDS[name]:
        types, kind = TYPES.get(field, ((object,), ''))
        if field not in record:
            missing.append(field)
        elif not isinstance(record[field], types):
            raise UserError(f'{place}: {field} must be {kind}, got {short(record[field])}')
    if missing:
        hint = ' and '.join(REMEDIES[field] for field in missing if field in REMEDIES)
        raise UserError(
            f'{place} has no {", ".join(missing)}: {short(record)}. Each of the {name} must have '
            f'{", ".join(FIELDS[name])}{hint and f" ({hint})"}'
        )


def short(value: Any) -> str:
    """Return the representation of a value for a message, at most 100 characters."""
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + '...'


def find_problems(content: dict[str, list[dict]], classes: Sequence[str]) -> Iterator[Problem]:
    """Yield the problems in the records returned by ``read_annotations``.

    classes: the config's class names, in the order of the labels.
    """
    images, annotations, categories = (content[name] for name in UNIQUE)
    for name, fields in UNIQUE.items():
        for field in fields:
            counts = Counter(record[field] for record in content[name])
            repeated = [f'{value!r} ({n} times)' for value, n in counts.items() if n > 1]
            if repeated:
                text = f'{name} with the same {field}: {list_names(repeated)}. Each must be unique'
                yield Problem(True, text)
    yield from _class_problems(classes, [category['name'] for category in categories])
    if isinstance(classes, str):
        return
    yield from _unknown('category_id', annotations, categories, 'categories')
    yield from _unknown('image_id', annotations, images, 'images')
    wanted = {category['id'] for category in categories if category['name'] in classes}
    if not any(a['category_id'] in wanted for a in annotations):
        yield Problem(
            True,
            f'none of the {len(annotations)} annotations belongs to a class of the config. '
            'Annotate objects, or correct the classes',
        )
    yield from _box_problems(images, annotations)


def _class_problems(classes: Sequence[str], names: list[str]) -> Iterator[Problem]:
    """Compare the config's ``classes`` with ``names``, the file's categories in its order."""
    remedy = (
        f'Set classes=({", ".join(map(repr, names))},), in the order of the file, in the metainfo '
        f'of every data set, and num_classes={len(names)} in the model'
    )
    if isinstance(classes, str):  # such as ('person') without a comma
        yield Problem(True, f'classes is the string {classes!r}, not a tuple of names. {remedy}')
        return
    missing = [name for name in classes if name not in names]
    unused = [name for name in names if name not in classes]
    if missing:
        which = f'{len(missing)} of the {len(classes)} classes of the config: {_list(missing)}'
        yield Problem(True, f'the file lacks {which}. {remedy}')
        return
    if [name for name in names if name in classes] != list(classes):
        yield Problem(True, f'the classes of the config must be in the order of the file. {remedy}')
    if unused:
        which = f'{len(unused)} categories that are not classes of the config: {_list(unused)}'
        yield Problem(False, f'background includes the objects of {which}')


def _unknown(
    field: str, annotations: list[dict], records: list[dict], name: str
) -> Iterator[Problem]:
    known = {record['id'] for record in records}
    counts = Counter(a[field] for a in annotations if a[field] not in known)
    if not counts:
        return
    used = {a[field] for a in annotations}
    remedy = f'Remove them, or add their {name}'
    for how, change in (
        ('after adding 1', lambda x: x + 1),
        ('after subtracting 1', lambda x: x - 1),
        ('as numbers', int),
        ('as strings', str),
    ):
        with suppress(TypeError, ValueError):  # values of another type, not off by one
            if {change(value) for value in used} <= known:
                remedy = f'They match {how}: correct every {field}'
                break
    yield Problem(
        True,
        f'{sum(counts.values())} of {len(annotations)} annotations have {field} values that do '
        f'not occur in {name}: {_list(counts)} ({name} have {_list(r["id"] for r in records)}). '
        f'{remedy}',
    )


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
        hint = ' They fit if read as x1, y1, x2, y2: write width and height instead of x2, y2.'
    elif np.abs(boxes).max() <= 1:
        hint = ' They look like fractions of the image size: use pixels.'
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
    """Return the boxes as (n, 4) float64, or None if any of them is not four finite numbers."""
    try:
        array = np.array(boxes, float)
    except (TypeError, ValueError):
        return None
    return array if array.shape == (len(boxes), 4) and np.isfinite(array).all() else None
