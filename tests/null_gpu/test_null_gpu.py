"""Kernel launches and waits of every kind of config, compared with the committed table."""

import subprocess
import sys

import pytest

from tests.null_gpu import count, null_gpu

REASON = null_gpu.missing_requirement()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

# Launches and waits of single calls
CALLS = {
    'x + 1': (1, 0),
    'x @ x': (1, 0),
    'x.clone()': (0, 0),  # copies are not launches
    'x[0, 0].item()': (0, 1),
    'x.tolist()': (0, 1),
    'bool(x.any())': (1, 1),
    'x.nonzero()': (3, 1),
    'x.to("cpu", non_blocking=True)': (0, 0),
    'small.cuda()': (0, 1),
    'small.cuda(non_blocking=True)': (0, 0),
    'large.cuda(non_blocking=True)': (0, 1),
    'large.pin_memory().cuda(non_blocking=True)': (0, 0),
    'torch.cuda.synchronize()': (0, 1),
    'torch.cuda.synchronize() ': (0, 0),  # the device has nothing to do
}
SCRIPT = f"""
import torch
from tests.null_gpu import null_gpu
null_gpu.restart()

x = torch.randn(8, 8, device='cuda')
x @ x  # creates cuBLAS's workspace
small, large = torch.zeros(16384), torch.zeros(16385)  # 64 KB, and more
for call in {list(CALLS)}:
    counts = null_gpu.Counts()
    eval(call)
    print(*counts.read())
"""


def test_launches_and_waits_of_single_calls(tmp_path):
    script = tmp_path / 'calls.py'
    script.write_text(SCRIPT)
    result = subprocess.run(
        [sys.executable, script], env=null_gpu.environment(), capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    counts = [tuple(map(int, line.split())) for line in result.stdout.splitlines()]
    assert dict(zip(CALLS, counts, strict=True)) == CALLS


def test_table_has_every_kind():
    from tests.null_gpu.kinds import LEFT_OUT

    assert sorted(count.read_table()) == sorted([*count.all_names(), *LEFT_OUT])


@pytest.mark.parametrize('part', range(2), ids=('mmpretrain', 'mmdet'))
def test_counts_are_those_of_the_table(part):
    names = count.split_by_package(count.all_names())[part]
    found = count.differences(count.measure(names), count.read_table())
    assert not found, (
        '\n'.join(found) + '\nIf this is intended, run `python -m tests.null_gpu.count --write` '
        'and commit the table with the reason. To list the lines that wait: '
        '`python -m tests.null_gpu.count KIND --lines`.'
    )


def test_more_waits_are_refused():
    table = {
        row.kind: row for row in (count.Row('a', '5', '2', '3', '1'), count.Row('b', '5', '2'))
    }
    fewer = [
        count.Row('a', '9', '1', '3', '0'),
        count.Row('b', '5', '1.5'),
        count.Row('c', '1', '9'),
    ]
    assert count.more_waits(fewer, table) == []
    assert count.more_waits([count.Row('a', '5', '2', '3', '2')], table) == ['a']
    assert len(count.differences(fewer, table)) == 3 + 1 + 4
