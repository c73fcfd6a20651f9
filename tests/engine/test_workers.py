"""Worker processes end with the run, regardless of how it ends and how they were started."""

import os
import signal
import subprocess
import sys
import time

import pytest

from finola_mm.engine import SIGNALS
from tests.conftest import ROOT

LOADS = """
import multiprocessing, sys, time
import torch
from torch.utils.data import DataLoader
from finola_mm.engine.workers import prepare_workers

class Hundreds:
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.tensor(100 * index)

def fail(worker):
    raise ValueError('the cause')

def main():
    multiprocessing.set_start_method(sys.argv[1], force=True)
    init = fail if 'fail' in sys.argv else None
    loader = DataLoader(Hundreds(), num_workers=2, persistent_workers=True, worker_init_fn=init)
    prepare_workers(loader)
    global batches  # exists until the process exits
    batches = iter(loader)
    numbers = [next(batches).item() for _ in range(3)]
    print(*numbers, *(worker.pid for worker in batches._workers), flush=True)
    if 'wait' in sys.argv:
        time.sleep(100)

if __name__ == '__main__':
    if 'child' in sys.argv:
        child = multiprocessing.get_context('fork').Process(target=main)
        child.start()
        child.join()
    else:
        main()
"""


@pytest.fixture
def start(tmp_path):
    """Start the script above; return the process, which is killed with its workers at the end."""
    path = tmp_path / 'loads.py'
    path.write_text(LOADS)
    started = []

    def start(*args, **environ):
        process = subprocess.Popen(
            [sys.executable, path, *args],
            env={**os.environ, 'PYTHONPATH': str(ROOT), **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate(timeout=60)


def ended(pid: int) -> bool:
    """Wait at most 20 s until a process has ended."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize('args', [['fork'], ['spawn'], ['forkserver'], ['fork', 'child']])
def test_the_process_exits_when_its_work_is_done(start, args):
    """Workers of a loader that still exists are waiting at that moment.

    child: the run is itself in a process of multiprocessing.
    """
    out, err = start(*args).communicate(timeout=100)
    numbers, workers = out.split()[:3], out.split()[3:]
    assert (numbers, err) == (['0', '100', '200'], '')
    assert len(workers) == 2 and all(ended(int(pid)) for pid in workers)


def children_of(process) -> list[str]:
    with open(f'/proc/{process.pid}/task/{process.pid}/children') as file:
        return file.read().split()


def test_only_the_end_of_the_main_process_ends_workers(start):
    """SLURM signals all processes; the main process would save."""
    process = start('fork', 'wait')
    workers = [int(pid) for pid in process.stdout.readline().split()[3:]]
    children = children_of(process)
    assert {*map(int, children)} == {*workers}
    for number in SIGNALS:
        for pid in workers:
            os.kill(pid, number)
    time.sleep(0.5)
    assert children_of(process) == children
    for pid in workers:
        os.kill(pid, 0)
    process.kill()
    assert all(map(ended, workers))


def test_a_batch_that_cannot_be_sent(start, tmp_path):
    """Sockets are made in the temporary folder; their paths have at most 107 characters."""
    folder = tmp_path / ('a' * 120)
    folder.mkdir()
    process = start('fork', TMPDIR=str(folder))
    _, err = process.communicate(timeout=100)
    assert process.returncode == 1
    (line,) = (line for line in err.splitlines() if line.startswith('finola_mm.errors.WorkerError'))
    assert all(part in line for part in (str(folder), 'AF_UNIX path too long'))


def test_a_worker_that_fails_at_its_start(start):
    process = start('fork', 'fail')
    _, err = process.communicate(timeout=100)
    assert process.returncode == 1
    assert 'ValueError: the cause' in err
