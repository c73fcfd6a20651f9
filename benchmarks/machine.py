"""Describe the machine: the first line of the output of every benchmark.

python benchmarks/machine.py
"""

import os
import platform
from pathlib import Path

import torch


def machine() -> str:
    """Return one line with the GPU, or the CPU, its vector extension and threads, and torch."""
    if torch.cuda.is_available():
        return f'{torch.cuda.get_device_name()}, torch {torch.__version__}'
    threads = f'{torch.get_num_threads()} threads of {os.cpu_count()} cores'
    extension = torch.backends.cpu.get_cpu_capability()
    return f'{processor()} ({extension}), {threads}, torch {torch.__version__}'


def processor() -> str:
    """Return the name of the CPU (Linux), or else the architecture."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(': ')[1] for line in lines if line.startswith('model name')]
    return names[0] if names else platform.machine()


if __name__ == '__main__':
    print(machine())
