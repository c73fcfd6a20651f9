"""What the log says of a run's batch and learning rate."""

from types import SimpleNamespace

import pytest
from mmengine.config import Config

from finola_mm.engine import BatchError, check_batch


class Log(list):
    info = warning = list.append


@pytest.fixture
def lines(monkeypatch):
    """(batch, accumulated steps, processes, scaled) -> the log of a recipe for batches of 64."""

    def lines(batch, steps, processes, scaled=False, **model):
        monkeypatch.setattr('finola_mm.engine.checks.batch_check.get_world_size', lambda: processes)
        # As tools/train.py writes it: the runner counts the images of a step, not of an update.
        scale = (
            dict(base_batch_size=64 / steps, enable=True) if scaled else dict(base_batch_size=64)
        )
        wrapper = dict(accumulative_counts=steps, optimizer=dict(type='AdamW', lr=0.002))
        cfg = Config(dict(model=model, optim_wrapper=wrapper, auto_scale_lr=scale))
        loader = type('Loader', (), dict(batch_size=batch, __len__=lambda self: 1))()
        log = Log()
        check_batch(SimpleNamespace(cfg=cfg, train_dataloader=loader, logger=log))
        return log

    return lines


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        ((64, 1, 1), '1 process x 64 images x 1 step = batches of 64; learning rate 0.002'),
        ((16, 2, 2), '2 processes x 16 images x 2 steps = batches of 64; learning rate 0.002'),
        ((1, 4, 8, True), '8 processes x 1 image x 4 steps = batches of 32; learning rate 0.001'),
        ((8, 1, 2, True), '2 processes x 8 images x 1 step = batches of 16; learning rate 0.0005'),
    ],
)
def test_the_batch_and_its_learning_rate(lines, arguments, said):
    assert lines(*arguments) == [said]


def test_another_batch_than_the_recipes(lines):
    log = lines(16, 1, 2)
    assert '= batches of 32; learning rate 0.002' in log[0]
    assert 'for batches of 64 images and this run makes batches of 32' in log[1]


def test_a_queue_takes_whole_batches(lines):
    """mmpretrain's MoCo asserts it in its first step, without a word."""
    lines(16, 2, 2, queue_len=64)
    with pytest.raises(BatchError, match='queue of 64 keys is filled by 24 a step'):
        lines(12, 1, 2, queue_len=64)
