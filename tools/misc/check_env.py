"""Say in plain words what this environment lacks, and the command that mends it.

    python tools/misc/check_env.py

First the metadata of the installed distributions (versions, retired names, the torch/torchvision
pair; see finola_mm/environment.py), then every import that matters, each in a process of its own:
a package that is there may still not load. Pre-training needs mmengine, mmcv without its compiled
ops, and mmpretrain; detection needs the ops and mmdet as well. Exit status 0 when all is fine.
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
    # from a checkout, else from a wheel, where this file lies in finola_mm/.mim/tools/misc
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


BOTH = ('pre-training', 'detection')

HEADLESS = (
    'python -m pip uninstall -y opencv-python opencv-python-headless',
    'python -m pip install opencv-python-headless==4.12.0.88',
)
OTHER_TORCH = r'undefined symbol|lib(torch|c10)\w*\.so[\w.]*: cannot open'
NO_OPS = r"No module named 'mmcv\._ext'"

OPS_CAUSES = (
    Cause(NO_OPS, 'mmcv is installed without its compiled ops (it was built in isolation from '
                  'torch, or is a "lite" build).', environment.BUILD_MMCV),
    Cause(OTHER_TORCH, 'mmcv\'s compiled ops were built against another torch.',
          environment.BUILD_MMCV),
)

PROBES = (
    Probe('torch and torchvision', 'torchvision',
          'import torch, torchvision; torch.ops.torchvision.nms', BOTH,
          (Cause(r'torchvision::nms|' + OTHER_TORCH,
                 'torchvision\'s compiled part does not load with this torch (a CPU-only torch '
                 'beside a CUDA torchvision, or two that are no pair).',
                 (environment.TORCH_PAIR + ' --force-reinstall',)),)),
    Probe('OpenCV', 'opencv-python-headless', 'import cv2', BOTH,
          (Cause(r'lib(GL|gthread|glib|SM|Xext|X11)[\w.-]*: cannot open',
                 'OpenCV is the build with windows, which needs graphics libraries that this '
                 'machine lacks.', HEADLESS),
           Cause(r'numpy\.core|_ARRAY_API|compiled using NumPy',
                 'OpenCV was built for another numpy.', HEADLESS))),
    Probe('mmengine', 'onedl-mmengine', 'import mmengine.runner', BOTH),
    Probe('mmcv', 'onedl-mmcv', 'import mmcv, mmcv.transforms', BOTH),
    Probe('mmpretrain', 'onedl-mmpretrain', 'import mmpretrain.models', ('pre-training',),
          (Cause(r'mmpretrain/models/multimodal(.|\n)*NoneType takes no arguments',
                 'mmpretrain\'s multimodal part fails with transformers 5 where pycocotools is '
                 'installed too.', ("python -m pip install 'transformers>=4.53,<5'",)),)),
    Probe('TensorBoard', 'tensorboard', 'from torch.utils.tensorboard import SummaryWriter',
          ('pre-training',)),
    Probe('mmcv\'s compiled ops', 'onedl-mmcv', 'import torch, mmcv._ext', ('detection',),
          OPS_CAUSES),
    Probe('mmdet', 'onedl-mmdetection', 'import mmdet.models', ('detection',), OPS_CAUSES),
)


def diagnose(probe: Probe, error: str) -> Problem:
    """Translate the error output of a failed ``probe``."""
    for cause in probe.causes:
        if re.search(cause.pattern, error):
            return Problem(cause.what, cause.mend)
    last = (error.strip().splitlines() or ['it crashed without a message'])[-1]
    missing = re.search(r"No module named '(\w+)", last)
    if environment.installed_version(probe.distribution) is None:
        return Problem(f'{probe.distribution} is not installed.', install(probe.distribution))
    if missing and missing[1] not in probe.code:
        return Problem(f'{probe.title} needs the module {missing[1]}, which is not installed.',
                       (f'python -m pip install --upgrade {probe.distribution}',))
    return Problem(f'{probe.title} does not load: {last}',
                   (f'python -c "{probe.code}"    # shows the whole error',
                    *install(probe.distribution)))


def install(distribution: str) -> tuple[str, ...]:
    """How to install one of the host stack or one of its plain companions."""
    try:
        return environment.install_commands(distribution)
    except StopIteration:
        return (f'python -m pip install {distribution}',)


def run_probe(probe: Probe) -> Problem | None:
    """Run ``probe`` in a process of its own; None when it succeeds."""
    done = subprocess.run([sys.executable, '-c', probe.code], capture_output=True, text=True)
    return diagnose(probe, done.stderr) if done.returncode else None


def main() -> int:
    """Print the report; the number of problems decides the exit status."""
    print(f'Python {platform.python_version()} at {sys.executable}')
    general = environment.find_problems()
    found = {}  # problem -> the work that it blocks; one cause often fails several probes
    for probe in PROBES:
        problem = run_probe(probe)
        installed = environment.installed_version(probe.distribution) or ''
        print(f'  {probe.title:24}{installed:12}{"FAILS" if problem else "ok"}', flush=True)
        if problem:
            found.setdefault(problem, set()).update(probe.needed_for)

    for work in BOTH:
        blocked = general or any(work in blocks for blocks in found.values())
        print(f'{work.capitalize()}: {"NOT ready" if blocked else "ready"}.')
    for problem in dict.fromkeys([*general, *found]):
        print(f'\n{problem}')
    return 1 if general or found else 0


if __name__ == '__main__':
    sys.exit(main())
