"""Read a COCO annotation file: what has another form ends in one message."""

import gc
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

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


class AnnotationError(ValueError):
    """An annotation file cannot be trained or tested on. The message is meant for the user."""


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
                f'{file}: {name} must be a list of records, got {short(content[name])}'
            )
        for i, record in enumerate(content[name]):
            _check_record(record, fields, f'{file}: {name}[{i}]')
            lacking = [field for field in fields if field not in record]
            if lacking:
                known = ' and '.join(REMEDIES[field] for field in lacking if field in REMEDIES)
                raise AnnotationError(
                    f'{file}: {name}[{i}] has no {", ".join(lacking)}: {short(record)}. Each of '
                    f'the {name} must have {", ".join(fields)}{known and f" ({known})"}'
                )
    return content


def _check_record(record: Any, fields: Iterable[str], place: str) -> None:
    if not isinstance(record, dict):
        raise AnnotationError(f'{place} must be a record of fields, got {short(record)}')
    for field in record.keys() & fields:
        kinds, kind = KINDS.get(field, (object, ''))
        if not isinstance(record[field], kinds):
            raise AnnotationError(f'{place}: {field} must be {kind}, got {short(record[field])}')


def _read_json(file: str | Path) -> Any:
    if not Path(file).is_file():
        beside = sorted(str(p) for p in Path(file).parent.glob('*.json'))
        raise FileNotFoundError(
            f'there is no annotation file {file}; beside it: {", ".join(beside) or "none"}'
        )
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


def short(value: Any) -> str:
    """As a message shows it."""
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + '...'
