"""Report missing or broken packages, with the commands that fix them.

    python tools/check/env.py

The tool first checks the metadata of the installed distributions: versions, two stacks over the
same files and the torch/torchvision pair (finola_mm/environment.py). It then tries all required
imports, since an installed package may fail to load. Pre-training requires mmengine, mmpretrain and
mmcv, without its compiled ops; detection also requires the ops and mmdet. The exit status is 0 if
there are no problems, otherwise 1. Missing CUDA operators of mmcv, which some configs require on a
GPU, are no problem, but the command that builds them is printed.
"""

import argparse
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve()


def load_environment():
    """Load finola_mm.environment by path, since importing finola_mm may raise an error."""
    # In a checkout, or in a wheel, where this file is finola_mm/.mim/tools/check/env.py
    places = (HERE.parents[2] / 'finola_mm', HERE.parents[3])
    path = next(place / 'environment.py' for place in places if (place / 'environment.py').exists())
    spec = spec_from_file_location('environment', path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


environment = load_environment()
Problem = environment.Problem


class Cause(NamedTuple):
    """A known cause of a failure, recognized by a pattern in the error output."""

    pattern: str
    what: str
    mend: tuple[str, ...]


class Probe(NamedTuple):
    """An import, the tasks that need it, and the known causes of its failure."""

    title: str
    module: str  # whose distribution to install if it is missing
    code: str
    needed_for: tuple[str, ...]
    causes: tuple[Cause, ...] = ()


HEADLESS = (environment.install_opencv(environment.installed_version('numpy') or '2'),)
OTHER_TORCH = r'undefined symbol|lib(torch|c10)\w*\.so[\w.]*: cannot open'
BUILD_MMCV = environment.build_mmcv()  # of the installed stack
OPS = (
    Cause(
        r"No module named 'mmcv\._ext'",
        'mmcv is installed without its compiled ops: as mmcv-lite, or built in isolation, without '
        'access to torch.',
        BUILD_MMCV,
    ),
    Cause(
        OTHER_TORCH,
        'The compiled ops of mmcv were built for another version of torch.',
        BUILD_MMCV,
    ),
)
MULTIMODAL = Cause(
    r'mmpretrain/models/multimodal(.|\n)*NoneType takes no arguments',
    'The multimodal part of mmpretrain fails with transformers 5 if pycocotools is also installed.',
    ("python -m pip install 'transformers>=4.53,<5'",),
)
PAIR = Cause(
    r'torchvision::nms|' + OTHER_TORCH,
    'The compiled part of torchvision does not load with this torch (for example, a CPU-only torch '
    'with a torchvision for CUDA).',
    (environment.install_torch() + ' --force-reinstall',),
)
NO_GRAPHICS = Cause(
    r'lib(GL|gthread|glib|SM|Xext|X11)[\w.-]*: cannot open',
    'The installed OpenCV is the GUI build, which requires graphics libraries that this machine '
    'lacks.',
    HEADLESS,
)
OTHER_NUMPY = Cause(
    r'numpy\.core|_ARRAY_API|compiled using NumPy',
    'OpenCV was built for another version of numpy.',
    HEADLESS,
)

CUDA_OPS = Problem(
    "mmcv's CUDA operators are not compiled: focal loss, NMS, RoIAlign and deformable attention. "
    'On a GPU, RetinaNet, Faster R-CNN, RTMDet and DINO (configs/det/any, retinanet_mf.py, '
    'dino_mf.py, configs/photos/rtmdet_*.py) require them; all other configs work without them. '
    "To compile them (not yet tried), install a CUDA toolkit (nvcc) of torch's CUDA version, then:",
    environment.build_mmcv(cuda=True),
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
    Probe('safetensors', 'safetensors', 'import safetensors.torch', (PRE, DET)),
    Probe('scikit-image', 'scikit-image', 'import skimage', (PRE, DET)),
    Probe('OpenCV', 'opencv-python-headless', 'import cv2', (PRE, DET), (NO_GRAPHICS, OTHER_NUMPY)),
    Probe('mmengine', 'mmengine', 'import mmengine.runner', (PRE, DET)),
    Probe('mmcv', 'mmcv', 'import mmcv, mmcv.transforms', (PRE, DET)),
    Probe('mmpretrain', 'mmpretrain', 'import mmpretrain.models', (PRE,), (MULTIMODAL,)),
    Probe(
        'TensorBoard', 'tensorboard', 'from torch.utils.tensorboard import SummaryWriter', (PRE,)
    ),
    Probe('compiled ops of mmcv', 'mmcv', 'import torch, mmcv._ext', (DET,), OPS),
    Probe('mmdet', 'mmdet', 'import mmdet.models', (DET,)),
)


def diagnose(probe: Probe, error: str) -> Problem:
    """Explain the error output of a failed ``probe``."""
    for cause in probe.causes:
        if re.search(cause.pattern, error):
            return Problem(cause.what, cause.mend)
    name = environment.installed_distribution(probe.module)
    install = environment.install_commands(name)
    if missing := re.search(r"No module named '([^'.]+)'", last_line(error)):
        return Problem(
            f'{name} requires the module {missing[1]}, which is not installed.',
            install,
        )
    return Problem(
        f'{name} does not load: {last_line(error)}',
        (f'python -c "{probe.code}"    # shows the full error', *install),
    )


def last_line(error: str) -> str:
    """Return the last line of an error output, which summarizes the error."""
    return (error.strip().splitlines() or ['no error message'])[-1]


def run(code: str) -> subprocess.CompletedProcess:
    """Run ``code`` in a separate process, since it may crash."""
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)


def run_probes() -> tuple[dict[Probe, Problem | None], str]:
    """Run all probes; return the problem of each, or None, and the CUDA version of mmcv's ops.

    This version is empty after a failure, and 'not available' without CUDA operators.
    """
    # A single process is faster. Each probe runs in its own process only after a failure.
    cuda = 'print(mmcv._ext.get_compiling_cuda_version())'
    done = run('; '.join([*(probe.code for probe in PROBES), cuda]))
    if done.returncode == 0:
        return dict.fromkeys(PROBES), done.stdout.splitlines()[-1]
    found, known = {}, {}  # known: last line of an error -> diagnosis of the first probe with it
    for probe in PROBES:
        done = run(probe.code)
        if not done.returncode:
            found[probe] = None
        elif environment.installed_distribution(probe.module) is None:
            name = environment.preferred(probe.module)
            found[probe] = Problem(f'{name} is not installed.', environment.install_commands(name))
            known[last_line(done.stderr)] = found[probe]
        else:  # an error with the message of an earlier probe has the same cause
            diagnosis = diagnose(probe, done.stderr)
            found[probe] = known.setdefault(last_line(done.stderr), diagnosis)
    return found, ''


def main() -> int:
    """Print the report and return the exit status."""
    argparse.ArgumentParser(description='Report missing or broken packages').parse_args()
    print(f'Interpreter: {sys.executable}')
    print(environment.describe_stack(), flush=True)
    general, (found, cuda) = environment.find_problems(), run_probes()
    for probe, problem in found.items():
        name = environment.installed_distribution(probe.module)
        version = environment.installed_version(name) if name else '-'
        print(f'  {probe.title:24}{version:12}{"FAILS" if problem else "ok"}')
    for work in (PRE, DET):
        failed = any(found[probe] for probe in PROBES if work in probe.needed_for)
        print(f'{work.capitalize()}: {"NOT ready" if general or failed else "ready"}.')

    problems = dict.fromkeys([*general, *filter(None, found.values())])
    for problem in problems or ([CUDA_OPS] if cuda == 'not available' else []):
        print(f'\n{problem}')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
