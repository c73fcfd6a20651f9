"""Run torch's CUDA code on a machine without a GPU, and count launches and waits.

`null_cuda.cpp` stands in for CUDA. It is compiled here, and preloaded by the process that counts:
such a script calls `restart` first. Launches and waits are those of torch on a real GPU, where each
call of cuBLAS or cuDNN counts as one launch. Values and times of kernels are not available.
"""

import ctypes
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name('null_cuda.cpp')
COMPILER = os.environ.get('CXX', 'g++')
FLAGS = ('-std=c++17', '-O1', '-fPIC', '-shared', '-Wl,-soname,libcuda.so.1')
# Set to the library in a process that has preloaded it
LIBRARY = 'FINOLA_NULL_GPU'
# Environment variables that change which kernels torch launches, or hide the device
INFLUENCES = ('CUBLAS', 'CUDA', 'CUDNN', 'NVIDIA', 'PYTORCH', 'TORCH')


def missing_requirement() -> str | None:
    """Return why the null GPU cannot be used here, or None if it can."""
    pinned = re.search(r'^torch==(\S+)', (ROOT / 'requirements.txt').read_text(), re.MULTILINE)[1]
    system = f'{platform.system()} {platform.machine()}'
    if system != 'Linux x86_64':
        return f'the null GPU requires Linux x86_64, not {system}'
    if torch.__version__.split('+')[0] != pinned:
        return f'the null GPU requires torch {pinned} (requirements.txt), not {torch.__version__}'
    if torch.version.cuda is None:
        return f'torch {torch.__version__} was built without CUDA'
    if shutil.which(COMPILER) is None:
        return f'the null GPU requires a C++ compiler; {COMPILER} was not found'
    if not header_folders():
        return 'the CUDA headers of the packages nvidia-cuda-runtime and triton were not found'
    return None


def header_folders() -> list[Path]:
    """Return the folders with CUDA's headers, inside the packages that torch requires.

    The package of the CUDA runtime lacks the headers in crt/, which triton's has.
    """
    wanted = [
        ('nvidia', f'cu{torch.version.cuda.split(".")[0]}/include', 'driver_types.h'),
        ('triton', 'backends/nvidia/include', 'crt/host_defines.h'),
    ]
    found = []
    for package, folder, header in wanted:
        spec = importlib.util.find_spec(package)
        places = spec.submodule_search_locations if spec else []
        paths = [Path(place, folder) for place in places or []]
        found += [path for path in paths if (path / header).exists()][:1]
    return found if len(found) == len(wanted) else []


def build() -> Path:
    """Compile the stand-in for CUDA (2 s) unless the user's cache has it; return the library."""
    content = SOURCE.read_bytes() + ' '.join([COMPILER, *FLAGS, torch.__version__]).encode()
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'finola_mm'
    library = cache / f'null_gpu_{hashlib.sha256(content).hexdigest()[:16]}' / 'libcuda.so.1'
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        includes = [f'-I{folder}' for folder in header_folders()]
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            part = Path(folder) / library.name
            command = [COMPILER, *FLAGS, *includes, str(SOURCE), '-o', str(part), '-ldl']
            subprocess.run(command, check=True)
            part.replace(library)  # atomic: another process may be building it, too
    return library


def environment() -> dict[str, str]:
    """Return the environment of a process on the null GPU."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(INFLUENCES)}
    library = str(build())
    return {
        **kept,
        'LD_PRELOAD': library,
        LIBRARY: library,
        'TRITON_LIBCUDA_PATH': str(Path(library).parent),
        'OMP_NUM_THREADS': '1',
        'PYTHONPATH': os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')])),
    }


def restart() -> None:
    """Restart this Python script on the null GPU; do nothing if it runs there."""
    if LIBRARY not in os.environ:
        reason = missing_requirement()
        if reason:
            sys.exit(reason)
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment())
    # The null cuDNN offers no plan for attention; torch's own kernels are used instead.
    torch.backends.cuda.enable_cudnn_sdp(False)


class Counts:
    """Kernel launches and waits since the creation of this object.

    Fills of memory are launches, copies are not. A wait is a call that returns only when the device
    has finished, at a time when it may have work left. Asynchronous copies of pageable memory are
    waits, too: to the host, and to the device above 64 KB.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(os.environ[LIBRARY])
        self._functions = (library.null_gpu_launches, library.null_gpu_waits)
        for function in self._functions:
            function.restype = ctypes.c_long
        self._start = [function() for function in self._functions]

    def read(self) -> tuple[int, int]:
        """Return launches and waits so far."""
        launches, waits = (
            function() - start for function, start in zip(self._functions, self._start, strict=True)
        )
        return launches, waits


@contextmanager
def waiting_lines() -> Iterator[Counter[str]]:
    """Yield a counter of the lines of code that wait for the device."""
    lines: Counter[str] = Counter()
    report_type = ctypes.CFUNCTYPE(None)
    report = report_type(lambda: lines.update([calling_line()]))
    set_report = ctypes.CDLL(os.environ[LIBRARY]).null_gpu_on_wait
    set_report(report)
    try:
        yield lines
    finally:
        set_report(report_type())


def calling_line() -> str:
    """Return the innermost line of this project, mmengine, mmpretrain, mmdet or mmcv."""
    for frame in reversed(traceback.extract_stack()):
        ours = frame.filename.startswith(str(ROOT)) and 'site-packages' not in frame.filename
        if frame.filename == __file__:
            continue
        if ours or re.search(r'/mm(engine|pretrain|det|cv)/', frame.filename):
            file = frame.filename.removeprefix(f'{ROOT}/').rpartition('site-packages/')[2]
            return f'{file}:{frame.lineno} {frame.line}'
    return 'in the backward pass'
