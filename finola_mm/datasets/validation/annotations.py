"""Read a COCO annotation file, and find mistakes that would cause wrong labels or an AP of 0.

COCO loaders silently skip unusable annotations: objects of unknown categories or images, and boxes
without area. mmdet's CocoDataset takes the order of the classes from the file, not from the config,
and a class missing from the file shifts the labels of the classes after it. Every problem states
the value seen and the remedy.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...errors import UserError, list_names

LARGEST = 1e10  # COCO's evaluation ignores objects with a larger area


def _is_number(value: Any) -> bool:
    # Text, null, booleans, NaN and infinity are no numbers.
    return type(value) in (int, float) and abs(value) <= LARGEST


# The values that a field may have: a description and a test.
Kind = tuple[str, Callable[[Any], bool]]
ID: Kind = (
    'a whole number or a string',
    lambda v: type(v) in (int, str) or (type(v) is float and v.is_integer()),
)
CLASS_ID: Kind = ('an integer', lambda v: type(v) is int and _is_number(v))
TEXT: Kind = ('a string', lambda v: isinstance(v, str))
SIZE: Kind = ('a positive whole number', lambda v: _is_number(v) and v > 0 and v == int(v))
AREA: Kind = ("a number (without masks, the box's width times its height)", _is_number)
BOX: Kind = (
    'four numbers (x, y, width, height)',
    lambda v: isinstance(v, list) and len(v) == 4 and all(map(_is_number, v)),
)
# mmdet tests whether the value is true, pycocotools whether int(value) is: '0' and 0.5 differ.
CROWD: Kind = (
    '0 for a single object or 1 for a crowd',
    lambda v: type(v) in (int, float, bool) and v in (0, 1),
)
FIELDS = {
    'images': dict(id=ID, file_name=TEXT, height=SIZE, width=SIZE),
    'annotations': dict(id=ID, image_id=ID, category_id=ID, bbox=BOX, area=AREA, iscrowd=CROWD),
    'categories': dict(id=CLASS_ID, name=TEXT),
}
# Tolerated share of wrong boxes or images, equal to max_bad_share of SeededDataset. COCO's own
# files contain some boxes without area.
TOLERATED = 0.01
# Fields whose values must be unique.
UNIQUE = {'images': ('id', 'file_name'), 'annotations': ('id',), 'categories': ('id', 'name')}
SLACK = 1.0  # pixels by which a box may exceed the image: coordinates are rounded
CROWDS = 0.05  # share of crowds above which to warn; COCO has 0.01


class Problem(NamedTuple):
    """A mistake in a data set; if it is fatal, the run must not start."""

    fatal: bool
    text: str


def read_annotations(file: str | Path) -> dict[str, list[dict]]:
    """Read a COCO file as lists of records that have all required fields.

    A file without annotations, as of a test set, is read as one with an empty list of them.

    Raises:
        UserError: the file is missing, is not JSON in UTF-8, has a different structure, or has
            values that mmdet or pycocotools cannot use.
    """
    file = Path(file)
    if not file.is_file():
        others = list_names(sorted(file.parent.glob('*.json'))) or 'none'
        raise UserError(
            f'the annotation file {file} does not exist; other .json files there: {others}. '
            'Correct ann_file.'
        )
    content = _read_json(file)
    if not isinstance(content, dict) or not {'images', 'categories'} <= content.keys():
        held = sorted(content) if isinstance(content, dict) else f'a {type(content).__name__}'
        raise UserError(
            f'{file} is not a COCO annotation file: it contains {held}, but must contain images, '
            'annotations and categories'
        )
    content.setdefault('annotations', [])
    wrong = [line for name in FIELDS for line in _wrong_values(name, content[name])]
    if wrong:
        raise UserError('\n  '.join([f'{file} cannot be used:', *wrong]))
    return content


def _read_json(file: Path) -> Any:
    """Read a file in UTF-8 without a byte order mark, the only encoding that mmdet can read."""
    try:
        data = file.read_bytes()
        content = json.loads(data)  # also with a byte order mark, or in UTF-16 or UTF-32
    except (OSError, RecursionError, ValueError) as error:  # of the file, of JSON or the encoding
        raise UserError(
            f'{file} is not a complete JSON file in UTF-8 ({error}). Export or copy it again.'
        ) from None
    encoding = json.detect_encoding(data)
    if encoding != 'utf-8':
        raise UserError(
            f'{file} is encoded as {encoding.upper()}, which mmdet cannot read. Save it as UTF-8 '
            'without a byte order mark.'
        )
    return content


def _wrong_values(name: str, records: Any) -> Iterator[str]:
    """Yield a line for each field that is missing or of a wrong kind in any of the records."""
    if not isinstance(records, list):
        yield f'{name} must be a list of records, got {short(records)}'
        return
    for i, record in enumerate(records):
        if not isinstance(record, dict):
            yield f'{name}[{i}] must be a record of fields, got {short(record)}'
            return
    for field, (expected, accepts) in FIELDS[name].items():
        wrong = [i for i, record in enumerate(records) if not accepts(record.get(field, ...))]
        if wrong:
            record = records[wrong[0]]
            got = short(record[field]) if field in record else f'no {field}, but {short(record)},'
            yield (
                f'{len(wrong)} of {len(records)} {name} have no valid {field}: expected '
                f'{expected}, got {got} in {name}[{wrong[0]}]'
            )


def short(value: Any) -> str:
    """Return the representation of a value for a message, at most 100 characters."""
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + '...'


def find_problems(
    content: dict[str, list[dict]],
    classes: Sequence[str],
    *,
    labelled: bool = True,
    min_size: float = 0,
) -> Iterator[Problem]:
    """Yield the problems in the records returned by ``read_annotations``.

    classes: the config's class names, in the order of the labels.
    labelled: whether there must be objects.
    min_size: the shorter side from which images are used (``filter_cfg`` of mmdet).
    """
    images, annotations, categories = (content[name] for name in UNIQUE)
    for name, fields in UNIQUE.items():
        for field in fields:
            counts = Counter(record[field] for record in content[name])
            repeated = [f'{value!r} ({n} times)' for value, n in counts.items() if n > 1]
            if repeated:
                text = f'{name} with the same {field}: {list_names(repeated)}. Each must be unique'
                yield Problem(True, text)
    ids = {isinstance(image['id'], str): image['id'] for image in images}
    if len(ids) > 1:  # pycocotools sorts them
        text = f'images have both numbers and strings as ids: {_list(ids.values())}. Use one kind'
        yield Problem(True, text)
    largest = max((min(image['width'], image['height']) for image in images), default=min_size)
    if largest < min_size:
        yield Problem(
            True,
            f'filter_cfg.min_size={min_size} removes all {len(images)} images; their shorter sides '
            f'are at most {largest} pixels. Set a smaller min_size',
        )
    yield from _class_problems(classes, [category['name'] for category in categories])
    if isinstance(classes, str):
        return
    yield from _unknown('category_id', annotations, categories, 'categories')
    yield from _unknown('image_id', annotations, images, 'images')
    wanted = {category['id'] for category in categories if category['name'] in classes}
    objects = [a for a in annotations if a['category_id'] in wanted]
    if labelled and not objects:
        yield Problem(
            True,
            f'none of the {len(annotations)} annotations belongs to a class of the config. '
            'Annotate objects, or correct the classes',
        )
    # mmdet does not train on objects marked by its own field, ignore, either.
    crowds = sum(bool(a['iscrowd'] or a.get('ignore')) for a in objects)
    if crowds > CROWDS * len(objects):
        yield Problem(
            crowds == len(objects),
            f'{crowds} of {len(objects)} objects ({crowds / len(objects):.0%}) are crowds or '
            'ignored (iscrowd or ignore is not 0), which are not learned; crowds do not count in '
            'AP. Set both to 0 for single objects',
        )
    yield from _box_problems(images, annotations)
    yield from _duplicates(annotations)


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


def _duplicates(annotations: list[dict]) -> Iterator[Problem]:
    first: dict[tuple, dict] = {}
    pairs = []
    for a in annotations:
        original = first.setdefault((a['image_id'], a['category_id'], *a['bbox']), a)
        if original is not a:
            pairs.append((original['id'], a['id']))
    if pairs:
        yield Problem(
            False,
            f'{len(pairs)} of {len(annotations)} annotations ({len(pairs) / len(annotations):.2%}) '
            'have the image, category and bbox of another one, for example those with the ids '
            f'{pairs[0][0]!r} and {pairs[0][1]!r}. Each counts as another object in training and '
            'in AP. Remove them',
        )


def _box_problems(images: list[dict], annotations: list[dict]) -> Iterator[Problem]:
    sides = {image['id']: (image['width'], image['height']) for image in images}
    used = [a for a in annotations if a['image_id'] in sides]
    if not used:
        return
    boxes = np.array([a['bbox'] for a in used], float)
    x, y, w, h = boxes.T
    width, height = np.array([sides[a['image_id']] for a in used], float).T
    outside = (np.minimum(x + w, width) <= np.maximum(x, 0)) | (
        np.minimum(y + h, height) <= np.maximum(y, 0)
    )
    # mmdet's CocoDataset skips both.
    empty = (w < 1) | (h < 1) | outside
    no_area = (np.array([a['area'] for a in used], float) <= 0) & ~empty
    over = (np.minimum(x, y) < -SLACK) | (x + w > width + SLACK) | (y + h > height + SLACK)
    corners = (w > x) & (h > y) & (w <= width + SLACK) & (h <= height + SLACK)
    if over.mean() > TOLERATED and corners.mean() > 1 - TOLERATED:
        hint = ' They fit if read as x1, y1, x2, y2: write width and height instead of x2, y2.'
    elif np.abs(boxes).max() <= 1:
        hint = ' They look like fractions of the image size: use pixels.'
    else:
        hint = ' Correct or remove them; COCO boxes are x, y, width, height in pixels.'
    set_area = " Set area to the object's area, or without masks to the box's width times height."
    skipped = 'and are skipped in training'
    for wrong, what, remedy in (
        (empty, f'have no area inside the image, or less than 1 pixel, {skipped}', hint),
        (no_area, f'have the wrong value 0 (or less) in the field area, {skipped}', set_area),
        (over & ~empty, 'exceed the image', hint),
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
            yield Problem(fatal, text + remedy * fatal)
