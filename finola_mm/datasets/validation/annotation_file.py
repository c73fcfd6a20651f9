"""Read a COCO annotation file and check its structure."""

import gc
import json
import re
from pathlib import Path
from typing import Any

from ...errors import UserError, list_names

FIELDS = {
    'images': ('id', 'file_name', 'height', 'width'),
    'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd'),
    'categories': ('id', 'name'),
}
# Required types of some fields; ids may be text.
TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(('id', 'image_id', 'category_id'), ((int, float, str), 'a number')),
    **dict.fromkeys(('height', 'width', 'area', 'iscrowd'), ((int, float), 'a number')),
    **dict.fromkeys(('file_name', 'name'), ((str,), 'text')),
}
# Fields that other tools often omit, and the value to write.
REMEDIES = {
    'area': "where there are no masks, area is the box's width times its height",
    'iscrowd': 'iscrowd is 0 for a single object',
}
# Polygons are two thirds of COCO's files and not needed here. Only lists of lists of numbers are
# matched, so that a match ends where the value does.
POLYGONS = re.compile(rb'"segmentation":\s*\[\[[\d\s.,eE+\-\[\]]*\]\]')


def read_annotations(file: str | Path) -> dict[str, list[dict]]:
    """Read a COCO file as lists of records that have all required fields, without polygons.

    Raises:
        UserError: the file is missing, is not JSON, or has another structure.
    """
    content = _read_json(Path(file))
    if not isinstance(content, dict) or not FIELDS.keys() <= content.keys():
        held = sorted(content) if isinstance(content, dict) else f'a {type(content).__name__}'
        raise UserError(
            f'{file} is not a COCO annotation file: it contains {held} and must contain images, '
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


def _read_json(file: Path) -> Any:
    if not file.is_file():
        others = list_names(sorted(file.parent.glob('*.json'))) or 'none'
        raise UserError(
            f'the annotation file {file} does not exist; other .json files there: {others}. '
            'Correct ann_file.'
        )
    text = file.read_bytes()
    collects = gc.isenabled()
    gc.disable()  # or each collection would traverse millions of new objects
    try:
        return json.loads(POLYGONS.sub(b'"segmentation":[]', text))
    except UnicodeDecodeError as error:
        raise UserError(f'{file} is not JSON: {error}. Save it as UTF-8 text.') from None
    except json.JSONDecodeError as error:
        near = error.doc[max(0, error.pos - 20) : error.pos + 20]
        raise UserError(
            f'{file} is not JSON: {error.msg}, near {near!r}. It may be truncated: export or copy '
            'it again.'
        ) from None
    finally:
        if collects:
            gc.enable()


def short(value: Any) -> str:
    """The representation of a value in a message, at most 100 characters."""
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + '...'
