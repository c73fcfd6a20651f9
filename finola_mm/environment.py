"""Supported versions of torch and the OpenMMLab packages, and the commands that install them.

Used by ``setup.py``, ``import finola_mm`` (for its ImportError), ``tools/check/env.py`` and
``scripts/test_matrix.sh``. This module imports only the standard library and reads only metadata,
so it works with broken packages.
"""

import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import NamedTuple


class Distribution(NamedTuple):
    """A distribution of a module, supported for ``minimum <= version < below``."""

    name: str
    module: str
    stack: str  # the extra of setup.py that installs it; '' for torch
    minimum: str
    below: str
    tested: str


class Row(NamedTuple):
    """An environment in which the tests have run (docs/matrix.md). Pins of pip."""

    name: str
    python: str
    stack: str
    pins: tuple[str, ...]


class Problem(NamedTuple):
    """A missing or mismatched package, and the commands that fix it."""

    description: str
    commands: tuple[str, ...]

    def __str__(self) -> str:
        return '\n'.join([self.description, *(f'    {command}' for command in self.commands)])


# Two stacks install the same modules: the maintained onedl-* distributions, and OpenMMLab's own
# last releases. Of the distributions of a module, the first of each stack is the one to install.
# onedl-mmcv does not compile with torch 2.14, which requires C++20; onedl-mmengine requires 2.3.
DISTRIBUTIONS = (
    Distribution('torch', 'torch', '', '2.1', '2.14', '2.11.0'),
    Distribution('onedl-mmengine', 'mmengine', 'onedl', '0.10.12', '0.11', '0.10.12'),
    Distribution('onedl-mmcv', 'mmcv', 'onedl', '2.3.6', '2.4', '2.3.6'),
    Distribution('onedl-mmpretrain', 'mmpretrain', 'onedl', '1.3.6', '1.4', '1.3.6'),
    Distribution('onedl-mmdetection', 'mmdet', 'onedl', '3.5.1', '3.6', '3.5.1'),
    Distribution('mmengine', 'mmengine', 'openmmlab', '0.10', '0.11', '0.10.7'),
    Distribution('mmengine-lite', 'mmengine', 'openmmlab', '0.10', '0.11', '0.10.7'),
    Distribution('mmcv', 'mmcv', 'openmmlab', '2.1', '2.2', '2.1.0'),
    Distribution('mmcv-lite', 'mmcv', 'openmmlab', '2.1', '2.2', '2.1.0'),  # no compiled ops
    Distribution('mmcv-full', 'mmcv', 'openmmlab', '2.1', '2.2', ''),  # mmcv 1, unsupported
    Distribution('mmpretrain', 'mmpretrain', 'openmmlab', '1.2', '1.3', '1.2.0'),
    Distribution('mmdet', 'mmdet', 'openmmlab', '3.3', '3.4', '3.3.0'),
)
MODULES = ('mmengine', 'mmcv', 'mmpretrain', 'mmdet')

# The tested versions. Each torchvision release works with exactly one torch release.
MATRIX = (
    Row('a', '3.11', 'onedl', ('torch==2.11.0', 'torchvision==0.26.0', 'numpy==2.2.6')),
    Row('b', '3.11', 'openmmlab', ('torch==2.1.2', 'torchvision==0.16.2', 'numpy==1.26.4')),
    Row('c', '3.11', 'openmmlab', ('torch==2.6.0', 'torchvision==0.21.0', 'numpy==1.26.4')),
    Row('d-oldest', '3.12', 'onedl', ('torch==2.3.1', 'torchvision==0.18.1', 'numpy==1.26.4')),
    Row('d-newest', '3.12', 'onedl', ('torch==2.13.0', 'torchvision==0.28.0', 'numpy==2.2.6')),
)

# mmcv's error when an operator of its CPU-only build is called on a GPU.
NO_CUDA_OPERATOR = 'implementation for device cuda'

# In an isolated build, onedl-mmcv does not find torch and is silently built without its compiled
# ops. Without isolation it needs the packages of the first command. --no-cache-dir: pip's cache
# does not distinguish builds by torch version.
BUILD_REQUIREMENTS = dict(onedl='setuptools>=80,<82', openmmlab='setuptools<70')


def build_mmcv(cuda: bool = False) -> tuple[str, ...]:
    """Return the commands that compile the mmcv of the installed stack with its ops.

    cuda: also its CUDA operators. Not tried: this requires a CUDA toolkit.
    """
    name = preferred('mmcv')
    return (
        f"python -m pip install '{BUILD_REQUIREMENTS[installed_stack()]}' wheel ninja packaging "
        'psutil',
        f'python -m pip uninstall -y {" ".join(_installed("mmcv")) or name}',
        f'{"FORCE_CUDA=1 " if cuda else ""}python -m pip install --no-build-isolation '
        f'--no-cache-dir {pinned(name)}',
    )


def install_torch() -> str:
    """Return the command that installs the torch tested most with the installed stack."""
    row = next(row for row in MATRIX if row.stack == installed_stack())
    return f'python -m pip install {" ".join(row.pins)}'


def install_opencv(numpy: str) -> str:
    """Return the command that installs the tested OpenCV for a numpy, without its GUI.

    It overwrites the files of another build, which may stay installed, since packages require it.
    """
    tested = '4.11.0.86' if release(numpy) < (2,) else '4.12.0.88'
    return f'python -m pip install --force-reinstall --no-deps opencv-python-headless=={tested}'


def stack_packages(stack: str) -> list[str]:
    """Return the distributions that the extra ``stack`` installs, one of each module."""
    names = {known.module: known.name for known in reversed(DISTRIBUTIONS) if known.stack == stack}
    return [*reversed(names.values())]


def preferred(module: str) -> str:
    """Return the distribution of ``module`` that fits the installed stack, or ``module`` itself."""
    chosen = {known.name for known in DISTRIBUTIONS if known.module == module}
    return next((name for name in stack_packages(installed_stack()) if name in chosen), module)


def installed_distribution(module: str) -> str | None:
    """Return the installed distribution of ``module``, by either name, or None."""
    return next(iter(_installed(module)), None)


def installed_stack() -> str:
    """Return the stack of most installed OpenMMLab distributions, by default 'onedl'."""
    stacks = [
        known.stack for known in DISTRIBUTIONS if known.stack and installed_version(known.name)
    ]
    return max(stacks, key=stacks.count, default='onedl')


def _installed(module: str) -> list[str]:
    names = [known.name for known in DISTRIBUTIONS if known.module == module] or [module]
    return [name for name in names if installed_version(name)]


def pinned(distribution: str) -> str:
    """Return the requirement of ``distribution`` in its tested version, if there is one."""
    versions = {known.name: known.tested for known in DISTRIBUTIONS if known.tested}
    return f'{distribution}=={versions[distribution]}' if distribution in versions else distribution


def install_commands(distribution: str) -> tuple[str, ...]:
    """Return the commands that install ``distribution`` in its tested version."""
    if distribution in ('torch', 'torchvision'):
        return (install_torch(),)
    if distribution in ('onedl-mmcv', 'mmcv'):
        return build_mmcv()
    return (f'python -m pip install {pinned(distribution)}',)


def describe_stack() -> str:
    """Say in one line what is installed, and whether it is among the tested versions."""
    names = [name for module in ('torch', *MODULES, 'numpy') for name in _installed(module)]
    found = [f'{name} {installed_version(name)}' for name in names]
    rows = [row.name for row in MATRIX if _matches(row)]
    tried = f'row {rows[0]} of' if rows else 'not in'
    python = platform.python_version()
    return (
        f'{", ".join([f"Python {python}", *found])}: {tried} the tested versions (docs/matrix.md)'
    )


def _matches(row: Row) -> bool:
    pins = dict(pin.split('==') for pin in row.pins)
    pins |= {known.name: known.tested for known in DISTRIBUTIONS if known.stack == row.stack}
    names = ['torch', 'numpy', *(name for module in MODULES for name in _installed(module))]
    python = '.'.join(platform.python_version().split('.')[:2])
    return row.python == python and all(
        release(installed_version(name) or '0') == release(pins.get(name) or '1') for name in names
    )


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
    checks = _shared_files, _unsupported_versions, _torch_of_stack, _torch_pair, _numpy_pair
    return [problem for check in checks for problem in check()]


def require_supported() -> None:
    """Raise an ImportError if an installed version is unsupported."""
    problems = find_problems()
    if problems:
        lines = ['finola_mm does not support this environment:', *map(str, problems)]
        raise ImportError('\n'.join([*lines, 'For details, run: python tools/check/env.py']))


def _shared_files() -> Iterator[Problem]:
    for module in MODULES:
        names = _installed(module)
        if len(names) > 1:
            both = ' and '.join(f'{name} {installed_version(name)}' for name in names)
            uninstall = f'python -m pip uninstall -y {" ".join(names)}'
            install = install_commands(preferred(module))
            yield Problem(
                f'{both} are installed; they overwrite the files of each other. Keep one of them.',
                (uninstall, *(command for command in install if command != uninstall)),
            )


def _unsupported_versions() -> Iterator[Problem]:
    for name, module, _, minimum, below, tested in DISTRIBUTIONS:
        found = installed_version(name)
        if found and not release(minimum) <= release(found) < release(below):
            supported = ' or '.join(
                f'{known.name} >={known.minimum},<{known.below}'
                for known in DISTRIBUTIONS
                if known.module == module and known.tested
            )
            yield Problem(
                f'{name} {found} is installed; supported: {supported}.',
                install_commands(name if tested else preferred(module)),
            )


def _torch_of_stack() -> Iterator[Problem]:
    torch, mmengine = installed_version('torch'), installed_version('onedl-mmengine')
    if torch and mmengine and release('2.1') <= release(torch) < release('2.3'):
        yield Problem(
            f'onedl-mmengine {mmengine} requires torch 2.3 or newer; torch {torch} is installed.',
            (install_torch(),),
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
                    (install_torch(),),
                )


def _numpy_pair() -> Iterator[Problem]:
    torch, numpy = installed_version('torch'), installed_version('numpy')
    if torch and numpy and release(torch) < (2, 3) and release(numpy) >= (2,):
        yield Problem(
            f'torch {torch} requires numpy 1; numpy {numpy} is installed.',
            ('python -m pip install numpy==1.26.4', install_opencv('1.26.4')),
        )
