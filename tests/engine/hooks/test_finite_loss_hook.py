"""A non-finite loss ends the run before the next checkpoint, and its images are listed."""

import json
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.data import DataLoader

from finola_mm.engine import FiniteLossHook
from finola_mm.engine.hooks import finite_loss_hook
from finola_mm.errors import NonFiniteLossError
from tests.messages import shows

BAD_BATCH = 7  # the step, counted from 1, whose first image is NaN (or makes one)


class Toy(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 1)
        nn.init.constant_(self.linear.weight, 0.5)

    def forward(self, inputs, data_samples=None, mode='loss'):
        error = self.linear(torch.stack(inputs)).square().mean()
        return dict(loss_square=error, loss_weight=self.linear.weight.square().sum())


class NonFiniteGradient(Toy):
    """The gradient of a batch with an infinite image is NaN, its loss is finite."""

    def forward(self, inputs, data_samples=None, mode='loss'):
        inputs = torch.stack(inputs)
        weight = self.linear.weight
        if inputs.isinf().any():
            weight = weight * 1
            weight.register_hook(lambda grad: grad * float('nan'))
        return dict(loss=weight.square().sum() + 0 * inputs.nan_to_num(posinf=0).sum())


def dataset(bad: float):
    """Yield images, two per step: step s, counted from 1, has 2s - 2 and 2s - 1."""
    for index in range(20):
        value = bad if index == 2 * BAD_BATCH - 2 else index / 20
        yield dict(
            inputs=torch.tensor([value]),
            data_samples=BaseDataElement(metainfo=dict(img_path=f'{index}.jpg')),
        )


def make_runner(tmp_path, *, bad=float('nan'), by_epoch=False, model=None, checkpoint=None):
    loop = dict(by_epoch=True, max_epochs=2) if by_epoch else dict(by_epoch=False, max_iters=10)
    loader = DataLoader(list(dataset(bad)), 2, collate_fn=collate)
    return Runner(
        model=model or Toy(),
        work_dir=str(tmp_path),
        train_dataloader=loader,
        train_cfg=loop,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.25)),
        default_hooks=dict(
            checkpoint=checkpoint or dict(type='CheckpointHook', interval=1, by_epoch=by_epoch)
        ),
        custom_hooks=[dict(type='finola_mm.FiniteLossHook')],
        experiment_name=tmp_path.name,
        cfg=Config(dict(default_scope='mmengine')),
    )


def collate(samples):
    return {key: [sample[key] for sample in samples] for key in samples[0]}


def checkpoints(tmp_path):
    return sorted(int(p.stem.split('_')[1]) for p in tmp_path.glob('*.pth'))


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_one_error_and_a_file(tmp_path, bad):
    runner = make_runner(tmp_path, bad=bad)
    with pytest.raises(NonFiniteLossError) as caught:
        runner.train()
    message = str(caught.value)
    file = tmp_path / f'nonfinite_loss_iter_{BAD_BATCH}_rank_0.json'
    assert str(file) in message and '\n' not in message
    assert re.search(rf'\b{BAD_BATCH}\b', message)
    for value in (f'loss_square {bad}', 'loss_weight', 'lr 0.25'):
        assert value in message
    report = json.loads(file.read_text())
    assert report['images'] == ['12.jpg', '13.jpg']
    assert (report['iteration'], report['rank']) == (BAD_BATCH, 0)
    assert report['losses']['loss_square'] == str(bad)
    assert 0 < float(report['losses']['loss_weight']) < 1
    assert checkpoints(tmp_path) == list(range(1, BAD_BATCH))


def test_the_epoch_is_named(tmp_path):
    runner = make_runner(tmp_path, by_epoch=True)
    with pytest.raises(NonFiniteLossError, match=shows('epoch 1') + r'(?=.*\b7\b)'):
        runner.train()
    assert checkpoints(tmp_path) == []


def test_a_finite_run_is_left_alone(tmp_path):
    runner = make_runner(tmp_path, bad=0.5)
    runner.train()
    assert checkpoints(tmp_path) == list(range(1, 11))
    assert not list(tmp_path.glob('nonfinite*'))


def test_no_checkpoint_follows_a_non_finite_gradient(tmp_path):
    """All losses before the checkpoint are finite, the weights are not."""
    runner = make_runner(tmp_path, bad=float('inf'), model=NonFiniteGradient())
    with pytest.raises(NonFiniteLossError, match=shows(1, 7, 'linear.weight')):
        runner.train()
    assert checkpoints(tmp_path) == list(range(1, BAD_BATCH))


class Device:
    """Losses arrive ``delay`` steps late, or when the hook waits for them."""

    def __init__(self, delay):
        self.delay, self.steps, self.waits = delay, 0, 0

    def to_host(self, outputs):
        self.steps += 1
        losses = torch.stack(list(outputs.values())).detach()
        event = FakeEvent(self, torch.zeros(len(losses)), losses, self.steps + self.delay)
        return event.host, event


class FakeEvent:
    def __init__(self, device, host, losses, ready_at):
        self.device, self.host, self.losses, self.ready_at = device, host, losses, ready_at

    def query(self):
        if self.device.steps >= self.ready_at:
            self.host.copy_(self.losses)  # finite rubbish until then
        return self.device.steps >= self.ready_at

    def synchronize(self):
        self.device.waits += 1
        self.host.copy_(self.losses)


@pytest.fixture
def device(request, monkeypatch):
    device = Device(request.param)
    monkeypatch.setattr(finite_loss_hook, '_to_host', device.to_host)
    return device


late, never = (
    pytest.mark.parametrize('device', [delay], indirect=True, ids=str) for delay in (2, 1000)
)


@late
def test_late_losses_are_checked_later(tmp_path, device):
    runner = make_runner(tmp_path, checkpoint=dict(type='CheckpointHook', interval=100))
    with pytest.raises(NonFiniteLossError, match=shows('loss nan', f'iter_{BAD_BATCH}_')):
        runner.train()
    assert device.steps == BAD_BATCH + 2 and device.waits == 0
    report = json.loads((tmp_path / f'nonfinite_loss_iter_{BAD_BATCH}_rank_0.json').read_text())
    assert report['images'] == ['12.jpg', '13.jpg']  # of its own batch, not of the last one


@never
@pytest.mark.parametrize('interval', [1, 2, 7, 8, 100])  # 100: the last iteration's own
def test_no_checkpoint_before_every_loss_has_arrived(tmp_path, device, interval):
    hook = dict(type='CheckpointHook', interval=interval, by_epoch=False, max_keep_ckpts=1)
    runner = make_runner(tmp_path, checkpoint=hook)
    with pytest.raises(NonFiniteLossError, match=f'iter_{BAD_BATCH}_'):
        runner.train()
    # The last finite checkpoint remains, although max_keep_ckpts is 1.
    last = (BAD_BATCH - 1) // interval * interval
    assert checkpoints(tmp_path) == ([last] if last else [])


@never
@pytest.mark.parametrize(
    'stage', ['after_train_epoch', 'before_val', 'after_train', 'before_save_checkpoint']
)
def test_every_stage_waits_for_losses(tmp_path, device, stage):
    runner = make_runner(tmp_path, by_epoch=True)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.train_loop  # noqa: B018  (builds it)
    hook = FiniteLossHook()
    hook.after_train_iter(runner, 0, None, dict(loss=torch.tensor(float('nan'))))
    with pytest.raises(NonFiniteLossError):
        getattr(hook, stage)(runner, *([{}] if stage == 'before_save_checkpoint' else []))
    assert device.waits == 1


def test_numbers_count_as_well_as_tensors(tmp_path):
    runner = make_runner(tmp_path, by_epoch=True)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.train_loop  # noqa: B018  (builds it)
    hook = FiniteLossHook()
    hook.after_train_iter(runner, 0, None, dict(loss=torch.tensor([1.0]), accuracy=3))
    with pytest.raises(NonFiniteLossError, match=shows('loss 1', 'accuracy inf')):
        hook.after_train_iter(runner, 1, None, dict(loss=torch.tensor(1.0), accuracy=float('inf')))
