"""Supported versions of torch and the OpenMMLab packages, and the commands that install them.

Used by ``setup.py``, ``import finola_mm`` (for its ImportError) and ``tools/check/env.py``. This
module imports only the standard library and reads only metadata, so it works with broken packages.
"""

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import NamedTuple


class Dependency(NamedTuple):
    """A distribution, supported for ``minimum <= version < below``."""

    distribution: str
    minimum: str
    below: str
    tested: str  # pinned by requirements.txt
    reason: str  # for the bounds


class Problem(NamedTuple):
    """A missing or mismatched package, and the commands that fix it."""

    description: str
    commands: tuple[str, ...]

    def __str__(self) -> str:
        return '\n'.join([self.description, *(f'    {command}' for command in self.commands)])


DEPENDENCIES = (
    Dependency(
        'torch',
        '2.6',
        '2.14',
        '2.11.0',
        'reading checkpoints safely requires 2.6; onedl-mmcv does not compile with 2.14, which '
        'requires C++20',
    ),
    Dependency('onedl-mmengine', '0.10.12', '0.11', '0.10.12', 'the tested series'),
    Dependency('onedl-mmcv', '2.3.6', '2.4', '2.3.6', 'the tested series'),
    Dependency('onedl-mmpretrain', '1.3.6', '1.4', '1.3.6', 'the tested series'),
    Dependency('onedl-mmdetection', '3.5.1', '3.6', '3.5.1', 'the tested series'),
)

# OpenMMLab's own distributions of the same modules. Their last releases do not build against
# current PyTorch. If one of them and its onedl-* successor are both installed, they overwrite each
# other's files.
RETIRED = {
    'mmengine': 'onedl-mmengine',
    'mmengine-lite': 'onedl-mmengine',
    'mmcv': 'onedl-mmcv',
    'mmcv-lite': 'onedl-mmcv',
    'mmcv-full': 'onedl-mmcv',
    'mmpretrain': 'onedl-mmpretrain',
    'mmdet': 'onedl-mmdetection',
}

# Each torchvision release works with exactly one torch release.
TORCH_PAIR = 'python -m pip install torch==2.11.0 torchvision==0.26.0'

# In an isolated build, mmcv does not find torch and is silently built without its compiled ops.
# Without isolation it needs the packages of the first command. --no-cache-dir: pip's cache does not
# distinguish builds by torch version.
BUILD_MMCV = (
    "python -m pip install 'setuptools>=80,<82' wheel ninja packaging psutil",
    'python -m pip uninstall -y onedl-mmcv',
    'python -m pip install --no-build-isolation --no-cache-dir onedl-mmcv==2.3.6',
)
# The same with mmcv's CUDA operators. Not tried: this requires a CUDA toolkit.
BUILD_MMCV_CUDA = (*BUILD_MMCV[:-1], f'FORCE_CUDA=1 {BUILD_MMCV[-1]}')


def install_commands(distribution: str) -> tuple[str, ...]:
    """Return the commands that install ``distribution``, pinned to its tested version if any."""
    if distribution in ('torch', 'torchvision'):
        return (TORCH_PAIR,)
    if distribution == 'onedl-mmcv':
        return BUILD_MMCV
    pins = {dependency.distribution: f'=={dependency.tested}' for dependency in DEPENDENCIES}
    return (f'python -m pip install {distribution}{pins.get(distribution, "")}',)


def installed_version(distribution: str) -> str | None:
    """Return the installed version of ``distribution``, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def release(text: str) -> tuple[int, ...]:
    """Parse the release numbers of a version, without trailing zeros: '2.11.0+cu130' -> (2, 11)."""
    found = re.match(r'\d+(\.\d+)*', text)
    if found is None:
        raise ValueError(f'expected a version that starts with a number, got {text!r}')
    return tuple(int(part) for part in re.sub(r'(\.0)+$', '', found[0]).split('.'))


def find_problems() -> list[Problem]:
    """Check the versions of the installed distributions; missing ones are not reported."""
    return [*_retired_names(), *_unsupported_versions(), *_torch_pair()]


def require_supported() -> None:
    """Raise an ImportError if an installed version is unsupported."""
    problems = find_problems()
    if problems:
        lines = ['finola_mm does not support this environment:', *map(str, problems)]
        raise ImportError('\n'.join([*lines, 'For details, run: python tools/check/env.py']))


def _retired_names() -> Iterator[Problem]:
    for old, new in RETIRED.items():
        if found := installed_version(old):
            beside = installed_version(new) is not None
            if beside:
                description = f'{old} {found} and {new} are both installed; they share files.'
            else:
                description = f'{old} {found} is installed; its maintained successor is {new}.'
            uninstall = f'python -m pip uninstall -y {old}' + (f' {new}' if beside else '')
            yield Problem(description, (uninstall, *install_commands(new)))


def _unsupported_versions() -> Iterator[Problem]:
    for name, minimum, below, _, reason in DEPENDENCIES:
        found = installed_version(name)
        if found and not release(minimum) <= release(found) < release(below):
            yield Problem(
                f'{name} {found} is installed; supported: >={minimum},<{below} ({reason}).',
                install_commands(name),
            )


def _torch_pair() -> Iterator[Problem]:
    torch, torchvision = installed_version('torch'), installed_version('torchvision')
    if torch and torchvision:
        pinned = [
            re.search(r'^torch\s*\(?==\s*([\w.]+)', line) for line in requires('torchvision') or ()
        ]
        for required in filter(None, pinned):
            if release(required[1]) != release(torch):
                yield Problem(
                    f'torchvision {torchvision} requires torch {required[1]}; '
                    f'torch {torch} is installed.',
                    (TORCH_PAIR,),
                )
