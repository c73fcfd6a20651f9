"""The batch size and learning rate in the log."""

import re
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from torch.utils.data import DataLoader

from finola_mm.datasets.validation import check_batch
from finola_mm.errors import UserError
from tests.messages import shows


class Log(list):
    info = warning = list.append


@pytest.fixture
def lines(monkeypatch):
    """(batch size, steps, ranks, scaled) -> log of a recipe with total batch size 64."""

    def lines(batch, steps, ranks, scaled=False, grouped=False, lr=0.002, **model):
        monkeypatch.setattr(
            'finola_mm.datasets.validation.batch_check.get_world_size', lambda: ranks
        )
        # As set by tools/train.py: MMEngine counts the images of a step, not of an update.
        scale = (
            dict(base_batch_size=64 / steps, enable=True) if scaled else dict(base_batch_size=64)
        )
        optimizer = dict(type='AdamW', lr=lr) if lr else dict(type='AdamW')
        wrapper = dict(accumulative_counts=steps, optimizer=optimizer)
        cfg = Config(dict(model=model, optim_wrapper=wrapper, auto_scale_lr=scale))
        loader = DataLoader(range(batch), batch)
        if grouped:  # as mmdet's AspectRatioBatchSampler: the loader's batch_size is None
            loader = DataLoader(loader.dataset, batch_sampler=loader.batch_sampler)
        log = Log()
        hub = SimpleNamespace(update_info=lambda name, value: None)
        check_batch(SimpleNamespace(cfg=cfg, train_dataloader=loader, logger=log, message_hub=hub))
        return log

    return lines


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [  # ranks, images, steps; total batch size; learning rate
        ((64, 1, 1), [1, 64, 1, 64, 0.002]),
        ((16, 2, 2), [2, 16, 2, 64, 0.002]),
        ((1, 4, 8, True), [8, 1, 4, 32, 0.001]),
        ((8, 1, 2, True), [2, 8, 1, 16, 0.0005]),
        ((8, 1, 2, True, True), [2, 8, 1, 16, 0.0005]),
    ],
)
def test_the_batch_and_its_learning_rate(lines, arguments, said):
    (line,) = lines(*arguments)
    assert sorted(map(float, re.findall(r'\d+(?:\.\d+)?', line))) == sorted(said)


def test_the_default_learning_rate_of_an_optimizer(lines):
    (line,) = lines(64, 1, 1, lr=None)
    assert 'learning rate nan' in line


def test_another_batch_than_the_recipes(lines):
    log = lines(16, 1, 2)
    assert '32' in log[0] and '0.002' in log[0]
    assert re.match(shows(64, 32, '--auto-scale-lr'), log[1])


def test_a_queue_takes_whole_batches(lines):
    """mmpretrain's MoCo asserts it in its first step, without a message."""
    lines(16, 2, 2, queue_len=64)
    with pytest.raises(UserError, match=shows(64, 24, 'model.queue_len')):
        lines(12, 1, 2, queue_len=64)
