"""The host stack: which versions are supported, and what to say where others are found.

The one table behind ``setup.py``'s requirements, the ImportError of ``import finola_mm`` and
``tools/check/env.py``. It reads the metadata of installed distributions and imports nothing
but the standard library, so it costs milliseconds and also works where the stack is broken.
"""

import re
from importlib.metadata import PackageNotFoundError, requires, version
from typing import NamedTuple


class Host(NamedTuple):
    """One distribution that we build on; ``minimum <= version < below`` is supported."""

    distribution: str
    minimum: str
    below: str
    tried: str  # the version that requirements.txt pins and every test here ran with
    reason: str  # why the bounds are where they are


class Problem(NamedTuple):
    """Something that is missing or mismatched, and the commands that mend it."""

    what: str
    mend: tuple[str, ...]

    def __str__(self) -> str:
        return '\n'.join([self.what, *(f'    {command}' for command in self.mend)])


HOSTS = (
    Host(
        'torch',
        '2.6',
        '2.14',
        '2.11.0',
        'from 2.6 on checkpoints can be read with an allow-list; from 2.14 on the sources of '
        'onedl-mmcv do not compile (C++20)',
    ),
    Host('onedl-mmengine', '0.10.12', '0.11', '0.10.12', 'the series that was tried'),
    Host('onedl-mmcv', '2.3.6', '2.4', '2.3.6', 'the series that was tried'),
    Host('onedl-mmpretrain', '1.3.6', '1.4', '1.3.6', 'the series that was tried'),
    Host('onedl-mmdetection', '3.5.1', '3.6', '3.5.1', 'the series that was tried'),
)

# The names under which OpenMMLab published the same modules before: their last releases do not
# build against current PyTorch, and beside an onedl-* distribution the two overwrite each other.
RETIRED = {
    'mmengine': 'onedl-mmengine',
    'mmengine-lite': 'onedl-mmengine',
    'mmcv': 'onedl-mmcv',
    'mmcv-lite': 'onedl-mmcv',
    'mmcv-full': 'onedl-mmcv',
    'mmpretrain': 'onedl-mmpretrain',
    'mmdet': 'onedl-mmdetection',
}

# Each torchvision is built for one torch and says so itself; this pair is the one we pin.
TORCH_PAIR = 'python -m pip install torch==2.11.0 torchvision==0.26.0'

# --no-build-isolation: in isolation mmcv sees no torch and is built silently without its ops. It
# then needs the first command. --no-cache-dir: pip's cache of built wheels ignores torch.
BUILD_MMCV = (
    "python -m pip install 'setuptools>=80,<82' wheel ninja packaging psutil",
    'python -m pip uninstall -y onedl-mmcv',
    'python -m pip install --no-build-isolation --no-cache-dir onedl-mmcv==2.3.6',
)


def install_commands(distribution: str) -> tuple[str, ...]:
    """The commands that install ``distribution``, a host in the version that was tried."""
    if distribution in ('torch', 'torchvision'):
        return (TORCH_PAIR,)
    if distribution == 'onedl-mmcv':
        return BUILD_MMCV
    pins = {host.distribution: f'=={host.tried}' for host in HOSTS}
    return (f'python -m pip install {distribution}{pins.get(distribution, "")}',)


def installed_version(distribution: str) -> str | None:
    """The installed version of ``distribution``, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def release(text: str) -> tuple[int, ...]:
    """``'2.11.0+cu130'`` -> ``(2, 11)``: the numbers that order releases, without final zeros."""
    found = re.match(r'\d+(\.\d+)*', text)
    if found is None:
        raise ValueError(f'expected a version that starts with a number, got {text!r}')
    return tuple(int(part) for part in re.sub(r'(\.0)+$', '', found[0]).split('.'))


def find_problems() -> list[Problem]:
    """What the metadata of the installed distributions shows; a missing one is no problem here."""
    return [*_retired_names(), *_unsupported_versions(), *_torch_pair()]


def require_supported() -> None:
    """Raise an ImportError that says what is unsupported and how to mend it."""
    problems = find_problems()
    if problems:
        lines = ['finola_mm does not support this environment:', *map(str, problems)]
        raise ImportError('\n'.join([*lines, 'More: python tools/check/env.py']))


def _retired_names():
    for old, new in RETIRED.items():
        if found := installed_version(old):
            beside = installed_version(new) is not None
            if beside:
                what = f'{old} {found} and {new} are both installed, each over files of the other.'
            else:
                what = f'{old} {found} is installed, the unmaintained name of {new}.'
            uninstall = f'python -m pip uninstall -y {old}' + (f' {new}' if beside else '')
            yield Problem(what, (uninstall, *install_commands(new)))


def _unsupported_versions():
    for host in HOSTS:
        found = installed_version(host.distribution)
        if found and not release(host.minimum) <= release(found) < release(host.below):
            yield Problem(
                f'{host.distribution} {found} is installed, supported is '
                f'>={host.minimum},<{host.below} ({host.reason}).',
                install_commands(host.distribution),
            )


def _torch_pair():
    torch, torchvision = installed_version('torch'), installed_version('torchvision')
    if torch and torchvision:
        pinned = [
            re.search(r'^torch\s*\(?==\s*([\w.]+)', line) for line in requires('torchvision') or ()
        ]
        for wanted in filter(None, pinned):
            if release(wanted[1]) != release(torch):
                yield Problem(
                    f'torchvision {torchvision} was built for torch {wanted[1]}, '
                    f'torch {torch} is installed.',
                    (TORCH_PAIR,),
                )
