"""Which file a user means by a path: a checkpoint, or the last one of a work directory."""

from pathlib import Path


def find_checkpoint(path: str) -> str:
    """``path`` if there is such a file, or the last checkpoint of a work directory.

    Raises:
        FileNotFoundError: neither; the message says what the folder does hold.
    """
    if '://' in path or Path(path).is_file():
        return path
    last = last_checkpoint(Path(path))
    if last is not None:
        return str(last)
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    if not folder.is_dir():
        raise FileNotFoundError(f'no checkpoint {path}; there is no folder {folder}')
    held = sorted(str(p) for p in folder.iterdir() if p.suffix in ('.pth', '.safetensors'))
    raise FileNotFoundError(
        f'no checkpoint {path}; '
        + (
            f'in {folder}: {", ".join(held)}'
            if held
            else f'{folder} holds no .pth or .safetensors file'
        )
    )


def last_checkpoint(folder: Path) -> Path | None:
    """The file that a work directory's ``last_checkpoint`` names, if it is there.

    First in the folder itself: it may have been moved, or copied while the old one lives on.
    """
    try:
        named = Path((folder / 'last_checkpoint').read_text(errors='replace').strip())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return next((file for file in (folder / named.name, named) if file.is_file()), None)
