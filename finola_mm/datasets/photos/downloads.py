"""Download packages with apt-get and pip; nothing is installed.

A file is downloaded to ``partial/`` and moved when it is complete, so an interrupted download is
never taken for a complete one. Neither program resumes an interrupted file; it starts again.
"""

import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from urllib.parse import unquote

from ...errors import UserError
from .archives import read_deb, read_wheel
from .catalogue import Package


def find_download(package: Package, folder: Path) -> Path | None:
    """Return the newest complete download of a package in ``folder``, or None."""
    pattern = f'{package.name}-*.whl' if package.pip else f'{package.name}_*.deb'
    return max(folder.glob(pattern), key=lambda file: file.stat().st_mtime, default=None)


def download(package: Package, folder: Path) -> Path:
    """Download a package to ``folder`` unless it is there; return the file.

    apt-get and pip write their progress and errors to standard error.

    Raises:
        UserError: they are missing or fail.
    """
    file = find_download(package, folder)
    if file is not None:
        return file
    partial = folder / 'partial'
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    file = find_download(package, partial) if _run_downloader(package, partial) else None
    if file is None:
        raise UserError(f'{package.name} cannot be downloaded; see the lines above')
    return file.rename(folder / file.name)


def _run_downloader(package: Package, partial: Path) -> bool:
    if package.pip:
        pinned = f'{package.name}=={package.version}'
        return _run(sys.executable, '-m', 'pip', 'download', '--no-deps', pinned, folder=partial)
    fetch = ('apt-get', 'download', package.name)
    # The first attempt fails if the lists of packages are missing, as in an image of a container,
    # or name a version that the server has replaced.
    return _run(*fetch, folder=partial) or (
        _run('apt-get', 'update', folder=partial) and _run(*fetch, folder=partial)
    )


def _run(*command: str, folder: Path) -> bool:
    """Run a command in ``folder`` with its output on standard error; return whether it succeeds."""
    if shutil.which(command[0]) is None:
        print(f'{command[0]} is not installed', file=sys.stderr)
        return False
    return subprocess.run(command, cwd=folder, stdout=2).returncode == 0


def version_of(file: Path) -> str:
    """Return the version in the name of a .deb file or a wheel."""
    return unquote(file.name.split('-' if file.suffix == '.whl' else '_')[1])


def read_files(package: Package, file: Path, paths: Collection[str]) -> dict[str, bytes]:
    """Read files of a downloaded package; ``paths`` are relative to its root."""
    read = read_wheel if package.pip else read_deb
    found = read(file, {package.root + path for path in paths})
    return {path.removeprefix(package.root): content for path, content in found.items()}
