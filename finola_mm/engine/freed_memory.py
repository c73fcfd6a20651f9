"""Training on a CPU without fetching the same memory from the kernel again and again."""

import ctypes

from mmengine.device import get_device

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
NEVER, LARGEST_KEPT = -1, 1 << 30  # bytes


def keep_freed_memory() -> None:
    """Let the C library keep what tensors on the CPU have freed, for the rest of the process.

    By itself glibc gives each large map back to the kernel once it is freed; the next one is new
    memory, filled with zeros one page of 4 KB at a time. Of a training step on a CPU that is up to a
    third of the time (benchmarks/freed_memory.py). The price is that the process
    stays as large as it once was. Nothing happens on a GPU, or with another C library.
    """
    if get_device() != 'cpu':
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, Windows
        return
    mallopt(M_TRIM_THRESHOLD, NEVER)
    mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
