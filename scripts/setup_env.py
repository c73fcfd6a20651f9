"""Make ``.venv`` in the checkout, or continue making it: what ``make setup`` runs.

    python3.11 scripts/setup_env.py

Five steps, each stamped in ``.venv/.setup`` when it is done, so that an interrupted set-up goes on
where it stopped and a finished one costs milliseconds. Other pins (``requirements.txt``), another
Python or another place of the checkout make a new ``.venv``.

mmcv is compiled in a folder that is kept until it is installed: ninja then builds only what is
missing. The wheel is kept under ``~/.cache/finola_mm`` for the next ``.venv`` with the same mmcv,
torch and Python (pip's own cache ignores torch); ``FINOLA_NO_CACHE=1`` neither reads nor writes it.

Only the standard library, and no syntax newer than 3.6: an old Python shall say that it is old.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import sys
import sysconfig
import tarfile
import time
from importlib.util import find_spec
from pathlib import Path

from setup_log import SetupError, SetupLog, clock

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / '.venv'
STATE = VENV / '.setup'
LOG = VENV / 'setup.log'
PYTHON = str(VENV / 'bin' / 'python')
PIP = [PYTHON, '-m', 'pip']
INSTALL = [*PIP, 'install', '--constraint', 'requirements.txt']

LAYOUT = 1  # raise it when every .venv must be made anew although no pin changed
DISK = 9e9  # bytes at the peak: the finished .venv 5.6, downloads on their way into it 3.1
JOB_MEMORY = 1.2e9  # bytes for one compiler process; 0.8 measured
BUILD_TOOLS = ('ninja', 'packaging', 'pip', 'psutil', 'setuptools', 'wheel')


def read_pins():
    """``{'torch': 'torch==2.11.0', …}`` from requirements.txt, in its order."""
    text = (ROOT / 'requirements.txt').read_text()
    lines = [line.split('#')[0].strip() for line in text.splitlines()]
    return {line.split('==')[0]: line for line in lines if line}


def wanted_key(pins):
    """What a ``.venv`` is made of; one with another key is made anew."""
    return {
        'layout': LAYOUT,
        'python': list(sys.version_info[:2]),
        'place': str(VENV),
        'pins': sorted(pins.values()),
    }


def found_key():
    """The key of the ``.venv`` that is there, or None."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads((STATE / 'key.json').read_text())


def missing_steps(key):
    """``{step: its stamp}`` of the steps to do; without a ``.venv`` of this ``key`` all of them."""
    # an editable installation reads these two only once
    sources = [ROOT / 'setup.py', ROOT / 'finola_mm' / 'environment.py']
    stamps = dict.fromkeys(STEPS, 'done')
    stamps['project'] = hashlib.sha256(b''.join(map(Path.read_bytes, sources))).hexdigest()
    fresh = found_key() != key
    return {
        step: stamp
        for step, stamp in stamps.items()
        if fresh or not (STATE / step).exists() or (STATE / step).read_text() != stamp
    }


def check_machine():
    """Name everything that stands in the way, in one message with the command that helps."""
    if found_key() is None and (VENV / 'pyvenv.cfg').exists():
        raise SetupError(
            f'{VENV} was not made by this set-up. Remove or rename it, then run the '
            'same command again.'
        )
    name = f'python{sys.version_info[0]}.{sys.version_info[1]}'
    compiler = os.environ.get('CXX', 'g++')
    lacks = {}
    if find_spec('ensurepip') is None:
        lacks[f'{name}-venv'] = f'the module ensurepip of {sys.executable}'
    if not Path(sysconfig.get_path('include'), 'Python.h').exists():
        lacks[f'{name}-dev'] = f'the headers (Python.h) of {sys.executable}'
    if shutil.which(compiler) is None:
        lacks['g++'] = f'a C++ compiler ({compiler})'
    if lacks:
        raise SetupError(
            f'This machine lacks {", ".join(lacks.values())}.\n'
            f'On Debian or Ubuntu, as root:\n    apt-get install {" ".join(lacks)}'
        )
    free = shutil.disk_usage(str(ROOT)).free
    if free < DISK and not VENV.exists():
        raise SetupError(
            f'The set-up needs {DISK / 1e9:.0f} GB of disk under {ROOT}, '
            f'{free / 1e9:.1f} GB are free.'
        )


def run(command, log, progress=None, **extra):
    """Run ``command`` in the environment of the new ``.venv``."""
    env = {name: value for name, value in os.environ.items() if name[:6] != 'PYTHON'}
    env['PATH'] = os.path.dirname(PYTHON) + os.pathsep + env['PATH']  # for ninja
    env['TMPDIR'] = str(STATE / 'tmp')  # downloads pass through it: GBs, too much for some /tmp
    env.update(PIP_USER='0', PIP_NO_INPUT='1', PIP_DISABLE_PIP_VERSION_CHECK='1', **extra)
    log.run(command, ROOT, env, progress)


def remove(path):
    """Remove a file or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(str(path))
    elif path.exists() or path.is_symlink():
        path.unlink()


def make_venv(pins, log):
    """An empty environment and the build tools."""
    for entry in VENV.iterdir():  # remains of an interrupted attempt
        if entry not in (STATE, LOG):
            remove(entry)
    base = getattr(sys, '_base_executable', sys.executable)  # this may run in the old .venv
    run([base, '-m', 'venv', str(VENV)], log)
    run([*INSTALL, *BUILD_TOOLS], log)


def install_torch(pins, log):
    """torch and its torchvision: by far the largest download."""
    run([*INSTALL, 'torch', 'torchvision'], log)


def install_others(pins, log):
    """Everything that comes ready-made."""
    others = [name for name in pins if name != 'onedl-mmcv']
    run([*INSTALL, '--no-build-isolation', *others], log)
    # again, over the files of its twin: requirements.txt says why
    run([*INSTALL, '--force-reinstall', '--no-deps', 'opencv-python-headless'], log)


def install_mmcv(pins, log):
    """mmcv with its compiled ops: from the cache where it holds this very build, else compiled."""
    kept = kept_builds(pins)
    wheel = next(kept.glob('*.whl'), None) or build_mmcv(pins, log)
    try:
        run([*INSTALL, '--no-deps', '--force-reinstall', str(wheel)], log)
        run([PYTHON, '-c', 'import torch, mmcv._ext'], log)
    except SetupError:
        remove(wheel)  # the next attempt links or compiles it anew
        raise
    if wheel.parent != kept:
        kept.mkdir(parents=True, exist_ok=True)
        part = kept / f'part-{os.getpid()}'
        shutil.copy(str(wheel), str(part))
        part.rename(kept / wheel.name)
    remove(STATE / 'build')


def kept_builds(pins):
    """The folder that keeps the wheel of this mmcv for this torch, Python and C library."""
    if os.environ.get('FINOLA_NO_CACHE', '0') != '0':
        return STATE / 'build' / 'kept'
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache', 'finola_mm')
    torch = next(VENV.glob('lib/python*/site-packages/torch-*.dist-info')).stem
    ops = 'cuda' if os.environ.get('FORCE_CUDA') == '1' else 'cpu'
    python = f'python-{sys.version_info[0]}.{sys.version_info[1]}'
    system = '-'.join(platform.libc_ver()) + '-' + platform.machine()
    return cache / '_'.join([pins['onedl-mmcv'], torch, python, system, ops])


def build_mmcv(pins, log):
    """Compile mmcv and return its wheel; files that an earlier attempt compiled are kept."""
    work = STATE / 'build'
    source = work / pins['onedl-mmcv'].replace('-', '_').replace('==', '-')
    if not source.exists():
        run(
            [
                *PIP,
                'download',
                '--no-deps',
                '--no-build-isolation',
                '--no-binary=onedl-mmcv',
                '--dest',
                str(work),
                pins['onedl-mmcv'],
            ],
            log,
        )
        with tarfile.open(f'{source}.tar.gz') as archive:
            archive.extractall(str(work / 'unpacked'))
        (work / 'unpacked' / source.name).rename(source)

    def progress():
        ninja = ''.join(path.read_text() for path in source.glob('build/temp*/build.ninja'))
        total = len(re.findall(r'^build .*\.o:', ninja, re.MULTILINE))
        ready = len(list(source.glob('build/temp*/**/*.o')))
        return f'{ready} of {total} files compiled' if total else 'preparing'

    # The debug information that Python's own flags ask for is a third of the compile time. CPPFLAGS
    # because setuptools appends them to those flags; CFLAGS would replace them, -O2 and all.
    extra = {'CPPFLAGS': os.environ.get('CPPFLAGS', '') + ' -g0'}
    # CPU ops, also where there is a GPU: nothing here needs the others, and those need a CUDA
    # toolkit that fits torch. FORCE_CUDA=1 asks for them.
    if os.environ.get('FORCE_CUDA') != '1':
        extra['CUDA_VISIBLE_DEVICES'] = ''
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    jobs = max(1, min(len(os.sched_getaffinity(0)), int(memory // JOB_MEMORY)))
    extra['MAX_JOBS'] = os.environ.get('MAX_JOBS', str(jobs))
    run(
        [
            *PIP,
            'wheel',
            '--verbose',
            '--no-deps',
            '--no-build-isolation',
            '--no-cache-dir',
            '--wheel-dir',
            str(work / 'dist'),
            str(source),
        ],
        log,
        progress,
        **extra,
    )
    return next((work / 'dist').glob('*.whl'))


def install_project(pins, log):
    """This checkout in editable form."""
    run([*INSTALL, '--no-deps', '--no-build-isolation', '--editable', str(ROOT)], log)


STEPS = {
    'venv': (make_venv, 'environment, build tools'),
    'torch': (install_torch, 'torch, the large download'),
    'others': (install_others, 'the other packages'),
    'mmcv': (install_mmcv, 'mmcv from source'),
    'project': (install_project, 'this project'),
}


def prepare(key):
    """Leave a ``.venv`` with this ``key``: the one that is there, or an empty one."""
    trash = ROOT / '.venv.trash'
    remove(trash)
    found = found_key()
    if found not in (None, key):
        changed = ', '.join(name for name in key if found.get(name) != key[name])
        print(f'Making .venv anew (changed: {changed}).', flush=True)
        VENV.rename(trash)  # in one go: removing takes seconds and may be interrupted
        remove(trash)
    remove(STATE / 'tmp')
    (STATE / 'tmp').mkdir(parents=True)
    (STATE / 'key.json').write_text(json.dumps(key))
    # What a killed pip left behind: it takes metadata without a RECORD for an installed package.
    for path in VENV.glob('lib/python*/site-packages/*'):
        if path.name[0] == '~' or path.suffix == '.dist-info' and not (path / 'RECORD').exists():
            remove(path)


@contextlib.contextmanager
def lock():
    """Only one set-up at a time works on a checkout."""
    with (ROOT / '.venv.lock').open('a') as file:
        os.set_inheritable(file.fileno(), True)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print('Another set-up of this checkout is at work; waiting for it.', flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main():
    """Do the missing steps."""
    if sys.version_info < (3, 10):  # noqa: UP036
        raise SetupError(
            f'Python 3.10 or newer is needed, {sys.executable} is '
            f'{platform.python_version()}. Name another: make PYTHON=python3.11 setup'
        )
    pins = read_pins()
    key = wanted_key(pins)
    if not missing_steps(key):
        return
    with lock():
        steps = missing_steps(key)  # another set-up may have done them meanwhile
        if not steps:
            return
        start, log = time.monotonic(), SetupLog(LOG)
        if 'mmcv' in steps:
            check_machine()
            print('Setting up .venv, once (details in .venv/setup.log)', flush=True)
        prepare(key)
        for step, stamp in steps.items():
            work, title = STEPS[step]
            log.start(f' {list(STEPS).index(step) + 1}/{len(STEPS)} {title:26}')
            work(pins, log)
            (STATE / step).write_text(stamp)
            log.show('done', last=True)
        remove(STATE / 'tmp')
        print(f'Set-up done in {clock(time.monotonic() - start)}.', flush=True)


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except SetupError as error:
        sys.exit(f'\n{error}')
    except KeyboardInterrupt:
        sys.exit('\nInterrupted. The same command goes on from here.')
