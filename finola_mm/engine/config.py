"""Read a config for a tool: every mistake ends in one message that names it and its remedy."""

import difflib
from pathlib import Path

from mmengine.config import Config


def load_config(path: str, *, options: dict | None = None, work_dir: str | None = None) -> Config:
    """Read the config file at ``path``, merge ``options``, settle ``work_dir``.

    ``work_dir``: the argument, else the config's own, else ``work_dirs/<name of the config>``.

    Raises:
        FileNotFoundError: no such config; the message proposes the nearest names.
    """
    file = Path(path)
    if not file.is_file():
        near = difflib.get_close_matches(file.name, [p.name for p in file.parent.glob('*.py')])
        hint = ', '.join(str(file.parent / name) for name in near) or 'nothing'
        raise FileNotFoundError(f'no config file {path}; near it: {hint}')
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(options or {})
    cfg.work_dir = work_dir or cfg.get('work_dir') or str(Path('work_dirs', file.stem))
    return cfg


def find_checkpoint(path: str) -> str:
    """``path`` if there is such a file, or the last checkpoint of a work directory.

    Raises:
        FileNotFoundError: neither; the message says what the folder does hold.
    """
    if '://' in path or Path(path).is_file():
        return path
    last = Path(path, 'last_checkpoint')  # mmengine writes the newest checkpoint's path into it
    if last.is_file():
        named = Path(last.read_text().strip())
        for candidate in (named, Path(path, named.name)):  # the folder may have been moved
            if candidate.is_file():
                return str(candidate)
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    held = sorted(str(p) for p in folder.glob('*.pth'))
    raise FileNotFoundError(
        f'no checkpoint {path}; '
        + (f'in {folder}: {", ".join(held)}' if held else f'{folder} holds no .pth file')
    )
