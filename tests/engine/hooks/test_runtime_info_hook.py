"""Reading losses late changes neither the log nor the checkpoints; the history has a limit."""

import json

import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from finola_mm.engine import RuntimeInfoHook
from finola_mm.engine.hooks import runtime_info_hook

LOOPS = {
    'epochs': dict(by_epoch=True, max_epochs=3, val_interval=1),
    'iterations': dict(by_epoch=False, max_iters=16, val_interval=5),
}


class Toy(BaseModel):
    """Two losses that change at every step."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 1)
        nn.init.constant_(self.linear.weight, 0.7)
        nn.init.constant_(self.linear.bias, 0.1)

    def forward(self, inputs, mode='loss'):
        error = self.linear(inputs.float()[:, None] / 32).square().mean()
        return dict(loss_a=error, loss_b=3 * error.sqrt())


def train(folder, loop, runtime_info):
    """Train 16 or 18 iterations; return the rows of the log and the histories of checkpoints."""
    by_epoch = loop['by_epoch']
    data = [dict(inputs=i) for i in range(12 if by_epoch else 32)]
    loader = DataLoader(data, 2, sampler=DefaultSampler(data, seed=0))
    runner = Runner(
        model=Toy(),
        work_dir=str(folder),
        experiment_name=folder.name,
        train_dataloader=loader,
        train_cfg=loop,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        default_hooks=dict(
            runtime_info=runtime_info,
            logger=dict(type='LoggerHook', interval=4),
            checkpoint=dict(type='CheckpointHook', interval=7, by_epoch=False),
        ),
        log_processor=dict(by_epoch=by_epoch),
        visualizer=dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
        default_scope='mmengine',
        log_level='ERROR',
    )
    runner.train()
    (log,) = folder.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    for row in rows:
        for changing in ('time', 'data_time', 'memory'):
            row.pop(changing, None)
    histories = {}
    for file in sorted(folder.glob('iter_*.pth')):
        hub = torch.load(file, weights_only=False)['message_hub']
        for name in ('train/loss_a', 'train/loss_b', 'train/loss'):
            histories[file.name, name] = hub['log_scalars'][name].data[0].tolist()
    return rows, histories


@pytest.mark.parametrize('loop', LOOPS)
def test_the_log_is_mmengines(tmp_path, monkeypatch, loop):
    expected = train(tmp_path / 'mmengine', LOOPS[loop], dict(type='RuntimeInfoHook'))
    monkeypatch.setattr(runtime_info_hook, '_on_gpu', bool)
    read = []
    original = RuntimeInfoHook._read
    monkeypatch.setattr(
        RuntimeInfoHook, '_read', lambda self, runner: [read.append(1), original(self, runner)]
    )
    found = train(tmp_path / 'ours', LOOPS[loop], dict(type='finola_mm.RuntimeInfoHook'))
    assert found == expected
    for (file, _), history in expected[1].items():
        assert file == f'iter_{len(history)}.pth'  # no iteration is missing
    assert len(read) < 16


def test_the_history_is_limited(tmp_path):
    hook = dict(type='finola_mm.RuntimeInfoHook', max_history=5)
    _, histories = train(tmp_path / 'short', LOOPS['iterations'], hook)
    _, whole = train(tmp_path / 'whole', LOOPS['iterations'], dict(type='RuntimeInfoHook'))
    assert histories == {name: values[-5:] for name, values in whole.items()}
