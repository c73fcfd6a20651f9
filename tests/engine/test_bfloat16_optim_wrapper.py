"""Autocast to bfloat16, and the choice between bfloat16 and float32."""

import os
import platform
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from finola_mm.engine import BFloat16OptimWrapper, bfloat16_optim_wrapper, computes_bfloat16


@pytest.fixture(params=[True, False])
def bfloat16(request, monkeypatch):
    """A CPU with bfloat16 arithmetic, and one without."""
    monkeypatch.setattr(bfloat16_optim_wrapper, 'computes_bfloat16', lambda device: request.param)
    return request.param


def test_forward_in_bfloat16_or_float32_weights_in_float32(bfloat16):
    model = nn.Linear(4, 4)
    wrapper = BFloat16OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    with wrapper.optim_context(model):
        out = model(torch.randn(2, 4))
    assert out.dtype == (torch.bfloat16 if bfloat16 else torch.float32)
    before = model.weight.clone()
    wrapper.update_params(out.float().square().mean())
    assert model.weight.dtype == torch.float32
    assert not torch.equal(model.weight, before)


def test_the_fallback_to_float32_is_logged(bfloat16, capsys):
    BFloat16OptimWrapper(torch.optim.SGD(nn.Linear(4, 4).parameters(), lr=0.1))
    assert ('float32' in capsys.readouterr().out) != bfloat16


@pytest.mark.skipif(
    sys.platform != 'linux' or platform.machine() != 'x86_64' or 'ONEDNN_MAX_CPU_ISA' in os.environ,
    reason='reads the flags of an x86 CPU without a limit for oneDNN',
)
def test_an_x86_cpu_needs_avx512_bf16():
    """The flags are those that the kernel lists."""
    lines = Path('/proc/cpuinfo').read_text().splitlines()
    flags = next(line for line in lines if line.startswith('flags')).split()
    assert computes_bfloat16('cpu') == ('avx512_bf16' in flags)
