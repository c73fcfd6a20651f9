"""Counted in page faults: how often the kernel had to give a process a page of memory."""

import ctypes
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from finola_mm.engine import freed_memory, keep_freed_memory

MALLOC = 'MALLOC_TRIM_THRESHOLD_', 'MALLOC_MMAP_THRESHOLD_'
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
    faults, environment = {}, {**os.environ, 'CUDA_VISIBLE_DEVICES': ''}
    for name in set(environment) & {'GLIBC_TUNABLES', *MALLOC}:
        del environment[name]
    for keep in (False, True):
        command = [sys.executable, '-c', SCRIPT.format(keep=keep)]
        out = subprocess.check_output(command, text=True, env=environment)
        faults[keep] = int(out.splitlines()[-1])
    assert 3 * faults[True] < faults[False]


def test_nothing_happens_on_a_gpu_or_without_glibc(monkeypatch):
    def refuse(name):
        raise AssertionError('not on a GPU')

    for name in ('GLIBC_TUNABLES', *MALLOC):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(freed_memory, 'get_device', lambda: 'cuda')
    monkeypatch.setattr(ctypes, 'CDLL', refuse)
    keep_freed_memory()
    monkeypatch.setattr(freed_memory, 'get_device', lambda: 'cpu')
    monkeypatch.setattr(ctypes, 'CDLL', lambda name: object())
    keep_freed_memory()


def test_malloc_s_own_variables_hold(monkeypatch):
    monkeypatch.setattr(freed_memory, 'get_device', lambda: 'cpu')
    monkeypatch.setattr(ctypes, 'CDLL', None)
    monkeypatch.setenv(MALLOC[0], '131072')
    keep_freed_memory()


@pytest.mark.parametrize('limit', [1 << 40, 32 << 20, 0])
def test_glibc_that_refuses_large_sizes(monkeypatch, limit):
    """What is never trimmed must not be mapped anew each time: both settings, or none."""
    calls = []

    def mallopt(name, value):
        calls.append(name)
        return int(value <= limit)

    for name in ('GLIBC_TUNABLES', *MALLOC):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(freed_memory, 'get_device', lambda: 'cpu')
    monkeypatch.setattr(ctypes, 'CDLL', lambda name: SimpleNamespace(mallopt=mallopt))
    keep_freed_memory()
    assert (calls[-1] == freed_memory.M_TRIM_THRESHOLD) == (limit > 0)
