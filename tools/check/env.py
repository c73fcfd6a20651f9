"""Say in plain words what this environment lacks, and the command that mends it.

    python tools/check/env.py

First the metadata of the installed distributions (versions, retired names, the torch/torchvision
pair; see finola_mm/environment.py), then every import that matters, for a package that is there may
still not load. Pre-training needs mmengine, mmpretrain and mmcv without its compiled ops; detection
needs the ops and mmdet. Exit status 0 when all is fine, else 1.
"""

import platform
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve()


def load_environment():
    """finola_mm.environment, without importing finola_mm: that raises where we want to report."""
    # from a checkout, else from a wheel, where this file lies in finola_mm/.mim/tools/check
    places = (HERE.parents[2] / 'finola_mm', HERE.parents[3])
    path = next(place / 'environment.py' for place in places if (place / 'environment.py').exists())
    spec = spec_from_file_location('environment', path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


environment = load_environment()
Problem = environment.Problem


class Cause(NamedTuple):
    """Why a probe failed, known by a pattern in its error output."""

    pattern: str
    what: str
    mend: tuple[str, ...]


class Probe(NamedTuple):
    """An import, the work that needs it, and the known causes of its failure."""

    title: str
    distribution: str  # what to install where it is missing
    code: str
    needed_for: tuple[str, ...]
    causes: tuple[Cause, ...] = ()


# Over the files of the other build, which may stay: packages of the stack ask for either.
HEADLESS = ('python -m pip install --force-reinstall --no-deps opencv-python-headless==4.12.0.88',)
OTHER_TORCH = r'undefined symbol|lib(torch|c10)\w*\.so[\w.]*: cannot open'
OPS = (
    Cause(
        r"No module named 'mmcv\._ext'",
        'mmcv is installed without its compiled ops: pip built it in isolation, where it saw no '
        'torch.',
        environment.BUILD_MMCV,
    ),
    Cause(
        OTHER_TORCH,
        'The compiled ops of mmcv were built against another torch.',
        environment.BUILD_MMCV,
    ),
)
MULTIMODAL = Cause(
    r'mmpretrain/models/multimodal(.|\n)*NoneType takes no arguments',
    'The multimodal part of mmpretrain fails with transformers 5 where pycocotools is installed '
    'too.',
    ("python -m pip install 'transformers>=4.53,<5'",),
)
PAIR = Cause(
    r'torchvision::nms|' + OTHER_TORCH,
    'The compiled part of torchvision does not load with this torch (say, a CPU-only torch beside '
    'a torchvision for CUDA).',
    (environment.TORCH_PAIR + ' --force-reinstall',),
)
NO_GRAPHICS = Cause(
    r'lib(GL|gthread|glib|SM|Xext|X11)[\w.-]*: cannot open',
    'OpenCV is the build with windows, which needs graphics libraries that this machine lacks.',
    HEADLESS,
)
OTHER_NUMPY = Cause(
    r'numpy\.core|_ARRAY_API|compiled using NumPy', 'OpenCV was built for another numpy.', HEADLESS
)

PRE, DET = 'pre-training', 'detection'
PROBES = (
    Probe(
        'torch and torchvision',
        'torchvision',
        'import torch, torchvision; torch.ops.torchvision.nms',
        (PRE, DET),
        (PAIR,),
    ),
    Probe('OpenCV', 'opencv-python-headless', 'import cv2', (PRE, DET), (NO_GRAPHICS, OTHER_NUMPY)),
    Probe('mmengine', 'onedl-mmengine', 'import mmengine.runner', (PRE, DET)),
    Probe('mmcv', 'onedl-mmcv', 'import mmcv, mmcv.transforms', (PRE, DET)),
    Probe('mmpretrain', 'onedl-mmpretrain', 'import mmpretrain.models', (PRE,), (MULTIMODAL,)),
    Probe(
        'TensorBoard', 'tensorboard', 'from torch.utils.tensorboard import SummaryWriter', (PRE,)
    ),
    Probe('compiled ops of mmcv', 'onedl-mmcv', 'import torch, mmcv._ext', (DET,), OPS),
    Probe('mmdet', 'onedl-mmdetection', 'import mmdet.models', (DET,)),
)


def diagnose(probe: Probe, error: str) -> Problem:
    """Translate the error output of a failed ``probe``."""
    for cause in probe.causes:
        if re.search(cause.pattern, error):
            return Problem(cause.what, cause.mend)
    install = environment.install_commands(probe.distribution)
    if missing := re.search(r"No module named '([^'.]+)'", last_line(error)):
        return Problem(
            f'{probe.distribution} needs the module {missing[1]}, which is missing.', install
        )
    return Problem(
        f'{probe.distribution} does not load: {last_line(error)}',
        (f'python -c "{probe.code}"    # shows the whole error', *install),
    )


def last_line(error: str) -> str:
    """Python's own summary of an error."""
    return (error.strip().splitlines() or ['it ended without a message'])[-1]


def run(code: str) -> subprocess.CompletedProcess:
    """Run ``code`` in a process of its own: it may crash."""
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)


def run_probes() -> dict[Probe, Problem | None]:
    """What each probe found."""
    # Together they take a third of the time; only after a failure is each worth a look of its own.
    if run('; '.join(probe.code for probe in PROBES)).returncode == 0:
        return dict.fromkeys(PROBES)
    found, told = {}, {}  # told: the last line of an error -> what the first probe made of it
    for probe in PROBES:
        done = run(probe.code)
        if not done.returncode:
            found[probe] = None
        elif environment.installed_version(probe.distribution) is None:
            found[probe] = Problem(
                f'{probe.distribution} is not installed.',
                environment.install_commands(probe.distribution),
            )
            told[last_line(done.stderr)] = found[probe]
        else:  # what fails with the same words as an earlier probe fails because of it
            diagnosis = diagnose(probe, done.stderr)
            found[probe] = told.setdefault(last_line(done.stderr), diagnosis)
    return found


def main() -> int:
    """Print the report and return the exit status."""
    print(f'Python {platform.python_version()} at {sys.executable}', flush=True)
    general, found = environment.find_problems(), run_probes()
    for probe, problem in found.items():
        version = environment.installed_version(probe.distribution) or '-'
        print(f'  {probe.title:24}{version:12}{"FAILS" if problem else "ok"}')
    for work in (PRE, DET):
        failed = any(found[probe] for probe in PROBES if work in probe.needed_for)
        print(f'{work.capitalize()}: {"NOT ready" if general or failed else "ready"}.')

    problems = dict.fromkeys([*general, *filter(None, found.values())])
    for problem in problems:
        print(f'\n{problem}')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
