"""Counted in page faults: how often the kernel had to give a process a page of memory."""

import ctypes
import platform
import subprocess
import sys

import pytest

from finola_mm.engine import freed_memory, keep_freed_memory

SCRIPT = """
import resource, torch
from finola_mm.engine import keep_freed_memory
if {keep}:
    keep_freed_memory()
def fill(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(16, 2**20)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
fill(2)
print(fill(10))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='other C libraries do otherwise')
def test_freed_memory_is_used_again(project_root):
    """Ten tensors in the place of one another: each is new memory by itself, none when kept."""
    faults = {}
    for keep in (False, True):
        command = [sys.executable, '-c', SCRIPT.format(keep=keep)]
        faults[keep] = int(subprocess.check_output(command, text=True).splitlines()[-1])
    assert faults[True] < 100 < 1000 < faults[False]


def test_nothing_happens_on_a_gpu_or_without_glibc(monkeypatch):
    def refuse(name):
        raise AssertionError('not on a GPU')

    monkeypatch.setattr(freed_memory, 'get_device', lambda: 'cuda')
    monkeypatch.setattr(ctypes, 'CDLL', refuse)
    keep_freed_memory()
    monkeypatch.setattr(freed_memory, 'get_device', lambda: 'cpu')
    monkeypatch.setattr(ctypes, 'CDLL', lambda name: object())
    keep_freed_memory()
