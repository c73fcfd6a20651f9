"""Output folders of tools that can be interrupted and run again."""

import json
from collections.abc import Callable
from pathlib import Path

from ..engine import atomic_write
from ..errors import UserError
from .command_line import make_folder


def claim_folder(
    folder: Path,
    stamp: str,
    request: dict,
    *,
    extends: Callable[[dict, dict], bool] = lambda made, request: False,
) -> bool:
    """Reserve ``folder`` for the results of ``request``; return whether they are complete.

    The file ``stamp`` in the folder records the request. A folder that holds anything else, or the
    results of another request, is left unchanged.

    extends: (recorded request, request) -> whether the results may be added to the recorded ones.

    Raises:
        UserError: the folder cannot be used.
    """
    if (folder / stamp).is_file():
        record = json.loads((folder / stamp).read_text())
        made = record.get('request', record)
        if made == request:
            return record.get('complete', False)
        if not extends(made, request):
            raise UserError(
                f'{folder} holds results of other arguments: {stamp} has {made}, expected '
                f'{request}. Choose another output folder, or delete this one'
            )
    elif folder.is_file() or (
        folder.is_dir() and any(not p.name.startswith(f'.{stamp}.') for p in folder.iterdir())
    ):
        raise UserError(
            f'the output folder {folder} must be new or empty, but holds other files. Nothing was '
            'written; choose another output folder'
        )
    write_stamp(folder, stamp, request, complete=False)
    return False


def write_stamp(folder: Path, stamp: str, request: dict, *, complete: bool) -> None:
    """Record the request of a folder, and whether its results are complete."""
    content = json.dumps({'request': request, 'complete': complete}, separators=(',', ':'))
    atomic_write(make_folder(folder) / stamp, content.encode())
