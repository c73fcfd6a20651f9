"""FLOP and bytes of single operators in benchmarks/gpu_bounds.py, compared with counts by hand."""

import subprocess
import sys

import pytest

from tests.null_gpu import null_gpu

REASON = null_gpu.missing_requirement()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

# FLOP and bytes of calls. a (64, 32), b (32, 16), row (1, 32) and x (2, 8, 4, 4) are float32.
CALLS = {
    'a @ b': (2 * 64 * 32 * 16, 4 * (64 * 32 + 32 * 16 + 64 * 16)),
    'a.mul(2)': (0, 4 * 2 * 64 * 32),
    'a.mul_(2)': (0, 4 * 2 * 64 * 32),
    'a.t().view(32, 64)[:5]': (0, 0),
    'a.zero_()': (0, 4 * 64 * 32),
    'torch.ones_like(a)': (0, 4 * 64 * 32),
    'a.copy_(row)': (0, 4 * (64 * 32 + 32)),
    'row.expand(64, 32) + a': (0, 4 * (32 + 2 * 64 * 32)),
    'torch.add(a, a, out=c)': (0, 4 * 2 * 64 * 32),
    'a[rows]': (0, 4 * 2 * 3 * 32 + 8 * 3),
    'a.index_add_(0, rows, row.expand(3, 32))': (0, 4 * 3 * 32),
    # In training: the map is read twice. Per channel, weight, bias and running statistics are read,
    # and two statistics returned. torch does not declare that it writes running statistics.
    'norm(x)': (0, 4 * (3 * 256 + 6 * 8)),
    'conv(x)': (2 * 2 * 16 * 4 * 8, 4 * (256 + 4 * 8 + 4 + 128)),
    'depthwise(x)': (0, 4 * (256 + 8 * 9 + 8 + 256)),
}
SCRIPT = f"""
import sys
sys.path.insert(0, {str(null_gpu.ROOT / 'benchmarks')!r})
import gpu_bounds, torch
gpu_bounds.null_gpu.restart()

with torch.device('cuda'):
    a, b, c, row = torch.ones(64, 32), torch.ones(32, 16), torch.ones(64, 32), torch.ones(1, 32)
    rows, x = torch.tensor([3, 1, 2]), torch.ones(2, 8, 4, 4)
    norm, conv = torch.nn.BatchNorm2d(8), torch.nn.Conv2d(8, 4, 1)
    depthwise = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8)
norm.num_batches_tracked = None
for call in {list(CALLS)}:
    with torch.no_grad(), gpu_bounds.Tracer() as tracer:
        eval(call)
    total = tracer.totals[gpu_bounds.OTHER]
    print(total['flop'], total['bytes'])
"""


def test_flop_and_bytes(tmp_path):
    script = tmp_path / 'calls.py'
    script.write_text(SCRIPT)
    result = subprocess.run(
        [sys.executable, script], env=null_gpu.environment(), capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    counts = [tuple(map(int, line.split())) for line in result.stdout.splitlines()]
    assert dict(zip(CALLS, counts, strict=True)) == CALLS
