"""Training on a CPU without fetching the same memory from the kernel again and again."""

import ctypes
import os

from mmengine.device import get_device

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
NEVER = -1
LARGEST_KEPT = 1 << 30, 32 << 20  # bytes; older versions of glibc refuse more than the second


def keep_freed_memory() -> None:
    """Let the C library keep what tensors on the CPU have freed, for the rest of the process.

    By itself glibc gives each large map back to the kernel once it is freed; the next one is new
    memory, filled with zeros one page of 4 KB at a time. Of a training step on a CPU that is up to
    two fifths where maps are large, and nothing where they are small (benchmarks/freed_memory.py).
    The price is a larger process: what was freed serves only requests that fit. Nothing happens on
    a GPU, with another C library, or where the environment sets malloc's own variables.
    """
    own = any(name.startswith('MALLOC_') or name == 'GLIBC_TUNABLES' for name in os.environ)
    if own or get_device() != 'cpu':
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, Windows
        return
    # Setting either ends glibc's own adjustment of both: not the second without the first.
    if any(mallopt(M_MMAP_THRESHOLD, size) for size in LARGEST_KEPT):
        mallopt(M_TRIM_THRESHOLD, NEVER)
