"""The progress bar of training: on a terminal only, and without a change to the log file."""

import io
import sys

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from finola_mm.apis.progress_bar import progress_bar


class Loss(BaseModel):
    """A parameter of 0.25, whose loss is itself."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.25))

    def forward(self, inputs, mode):
        return dict(loss=self.weight) if mode == 'loss' else [inputs]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Train for 60 steps, with a validation in between; return the log file and the output."""

    def run(stdout, steps=60):
        monkeypatch.setattr(sys, 'stdout', stdout)
        monkeypatch.setattr(Runner, '_log_env', lambda runner, cfg: None)  # starts compilers
        runner = Runner(
            model=Loss(),
            work_dir=str(tmp_path),
            train_dataloader=DataLoader([dict(inputs=0.0)] * steps),
            train_cfg=dict(by_epoch=False, max_iters=steps, val_interval=steps),
            val_dataloader=DataLoader([dict(inputs=0.0)]),
            val_cfg=dict(),
            val_evaluator=[],
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0)),
            log_processor=dict(by_epoch=False),
            default_scope='mmengine',
            experiment_name=f'bar{id(stdout)}',
        )
        with progress_bar(runner):
            runner.train()
        (file,) = tmp_path.glob(f'*/{runner.timestamp}.log')
        handlers = [h for h in runner.logger.handlers if getattr(h, 'stream', None) is stdout]
        assert sys.stdout is stdout and handlers
        return file.read_text(), stdout.getvalue()

    return run


def test_a_terminal(train):
    log, shown = train(Terminal())
    assert 'training  loss 0.2500' in shown and '60/60' in shown and 'validation' in shown
    lines = [line.partition(' - INFO - ')[2] for line in log.splitlines()]
    assert any('Iter(train) [50/60]' in line for line in lines)
    assert all(line in shown for line in lines)
    assert '60/60' not in log.replace('[60/60]', '')


def test_everything_else(train):
    log, shown = train(io.StringIO())
    assert 'Iter(train) [50/60]' in log and '━' not in shown and '\x1b[2K' not in shown
