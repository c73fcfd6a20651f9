"""What is wrong with a COCO annotation file, before a run finds an AP of 0.

The loaders of the COCO family leave out in silence what they cannot use: objects of unknown
categories or images, boxes without area. A class that the file lacks shifts the labels of those
after it, and the order of the classes counts in the file, not in the config (mmdet's CocoDataset).
Every finding here shows the value seen and the remedy.
"""

import gc
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

# Up to this share of boxes or images may be wrong, as in max_bad_share of SeededDataset; COCO's own
# files hold some boxes without area.
TOLERATED = 0.01
SLACK = 1.0  # pixels that a box may stand over the edge: coordinates are rounded
NAMED = 5  # examples of one finding
FIELDS = {
    'images': ('id', 'file_name', 'height', 'width'),
    'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd'),
    'categories': ('id', 'name'),
}
# What some of them must be; text serves as an id, too.
KINDS = {field: ((int, float, str), 'a number') for field in ('id', 'image_id', 'category_id')}
KINDS |= {field: (str, 'text') for field in ('file_name', 'name')}
# Fields that other tools often leave out, and what to write there.
REMEDIES = {
    'area': "where there are no masks, area is the box's width times its height",
    'iscrowd': 'iscrowd is 0 for a single object',
}
# Polygons are two thirds of COCO's files, and nothing here reads them. Lists of lists of numbers
# only, so that a match cannot end elsewhere than the value does.
POLYGONS = re.compile(rb'"segmentation":\s*\[\[[\d\s.,eE+\-\[\]]*\]\]')
EXIF_ORIENTATION, TURNED = 274, (5, 6, 7, 8)  # the tag, and its values that swap the two sides


class AnnotationError(ValueError):
    """An annotation file cannot be trained or tested on. The message is meant for the user."""


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


def read_annotations(file: str | Path) -> dict[str, list[dict]]:
    """The content of a COCO file, known to be lists of records with the fields that are needed.

    Raises:
        FileNotFoundError: there is none.
        AnnotationError: it is no JSON, or has another form.
    """
    content = _read_json(file)
    if not isinstance(content, dict) or not FIELDS.keys() <= content.keys():
        held = sorted(content) if isinstance(content, dict) else f'a {type(content).__name__}'
        raise AnnotationError(
            f'{file} is no COCO annotation file: it holds {held} and must hold images, annotations '
            'and categories'
        )
    for name, fields in FIELDS.items():
        if not isinstance(content[name], list):
            raise AnnotationError(
                f'{file}: {name} must be a list of records, got {_short(content[name])}')
        for i, record in enumerate(content[name]):
            _check_record(record, fields, f'{file}: {name}[{i}]')
            lacking = [field for field in fields if field not in record]
            if lacking:
                known = ' and '.join(REMEDIES[field] for field in lacking if field in REMEDIES)
                raise AnnotationError(
                    f'{file}: {name}[{i}] has no {", ".join(lacking)}: {_short(record)}. Each of '
                    f'the {name} must have {", ".join(fields)}{known and f" ({known})"}'
                )
    return content


def _check_record(record: Any, fields: Iterable[str], place: str) -> None:
    if not isinstance(record, dict):
        raise AnnotationError(f'{place} must be a record of fields, got {_short(record)}')
    for field in record.keys() & fields:
        kinds, kind = KINDS.get(field, (object, ''))
        if not isinstance(record[field], kinds):
            raise AnnotationError(f'{place}: {field} must be {kind}, got {_short(record[field])}')


def _read_json(file: str | Path) -> Any:
    if not Path(file).is_file():
        beside = sorted(str(p) for p in Path(file).parent.glob('*.json'))
        raise FileNotFoundError(
            f'there is no annotation file {file}; beside it: {", ".join(beside) or "none"}')
    text = Path(file).read_bytes()
    collects = gc.isenabled()
    gc.disable()  # or it goes through all of the growing millions of objects, again and again
    try:
        return json.loads(POLYGONS.sub(b'"segmentation":[]', text))
    except UnicodeDecodeError as error:
        raise AnnotationError(f'{file} is no JSON: {error}. It must be text in UTF-8.') from None
    except json.JSONDecodeError as error:
        near = error.doc[max(0, error.pos - 20) : error.pos + 20]
        raise AnnotationError(
            f'{file} is no JSON: {error.msg}, near {near!r}. Export or copy it again; it may be '
            'cut off.'
        ) from None
    finally:
        if collects:
            gc.enable()


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
            True, f'{len(missing)} of the {len(classes)} classes of the config are not in the '
                  f'file: {_some(missing)}. {remedy}')
    elif [name for name in names if name in classes] != list(classes):
        yield Problem(
            True, 'the classes of the config stand in another order than in the file, which '
                  f'counts: labels would get the names of others. {remedy}')
    left_out = [name for name in names if name not in classes]
    if left_out and not missing:
        yield Problem(False, f'{len(left_out)} categories are no classes of the config, and their '
                             f'objects count as background: {_some(left_out)}')


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
        True, f'{sum(counts.values())} of {len(annotations)} annotations have a {field} that '
              f'none of the {name} has, among them {_some(counts)} ({name} have '
              f'{_some(record["id"] for record in records)}). {remedy}')


def _all_in(used: set, change: Callable, known: set) -> bool:
    try:
        return {change(value) for value in used} <= known
    except (TypeError, ValueError):  # of another kind, not off by one
        return False


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
        np.minimum(y + h, height) <= np.maximum(y, 0))
    empty = (w < 1) | (h < 1) | (boxes.area <= 0) | outside  # what mmdet's CocoDataset leaves out
    over = (np.minimum(x, y) < -SLACK) | (x + w > width + SLACK) | (y + h > height + SLACK)
    corners = (w > x) & (h > y) & (w <= width + SLACK) & (h <= height + SLACK)
    if over.mean() > TOLERATED and corners.mean() > 1 - TOLERATED:
        hint = ' They fit as x1, y1, x2, y2: give width and height instead of x2, y2.'
    elif np.abs(boxes.xywh).max() <= 1:
        hint = ' They look like fractions of the image: give pixels.'
    else:
        hint = ' Mend or remove them; COCO boxes are x, y, width, height in pixels.'
    yield from _share(empty, boxes, 'have no area inside the image (or are below 1 pixel), and '
                                    'are left out by the loader', hint)
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
            f'annotation {wrong["id"]!r} has the bbox {_short(wrong["bbox"])}, which is not four '
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
    yield Problem(share > TOLERATED, f'{len(places)} of {len(wrong)} boxes {what}: {examples}.'
                                     f'{hint if share > TOLERATED else ""}')


# ------------------------------------------------------------------------------------- images
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
        return (f'{path} is {size[0]} x {size[1]}{why}, and the annotation file has '
                f'{recorded[0]} x {recorded[1]}')
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
            'remove the records; tools/misc/check_coco.py looks at every image',
        )


def _some(values: Iterable) -> str:
    """The first values, and how many more there are."""
    values = list(values)
    more = f' and {len(values) - NAMED} more' if len(values) > NAMED else ''
    return ', '.join(repr(value) for value in values[:NAMED]) + more


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + '...'
