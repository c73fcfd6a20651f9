"""One rank: a signal ends the run between two updates; the resumed run is bit-identical."""

import multiprocessing
import os
import re
import signal
import subprocess
import threading
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from finola_mm.engine import SIGNALS, InterruptionHook
from finola_mm.engine.workers import prepare_workers
from tests.messages import shows
from tests.tools.trouble import assert_same_run, write_config


class SignalHook(Hook):
    """Send this process a signal after its third step."""

    def __init__(self, number):
        self.number = number

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == 3:
            os.kill(os.getpid(), self.number)


@pytest.fixture
def run(tmp_path, image_folder):
    """Train 6 steps, two per update, in a folder of this name; return the folder."""

    def run(name, *, number=0, resume=None):
        cfg = Config.fromfile(write_config(tmp_path / 'config.py', image_folder))
        cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=6)
        cfg.train_dataloader.sampler.type = 'finola_mm.SeededInfiniteSampler'
        cfg.default_hooks.checkpoint.update(interval=6, by_epoch=False)
        cfg.log_processor.by_epoch = False
        cfg.optim_wrapper.accumulative_counts = 2
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        cfg.visualizer.vis_backends = [dict(type='LocalVisBackend')]
        cfg.work_dir, cfg.experiment_name = str(tmp_path / name), name
        cfg.resume, cfg.load_from = bool(resume), resume and str(resume)
        runner = Runner.from_cfg(cfg)
        runner.register_hook(SignalHook(number))
        runner.train()
        return tmp_path / name

    return run


@pytest.fixture(autouse=True)
def same_handlers():
    """A run restores the signal handlers, regardless of how it ends."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_resumed_equals_uninterrupted(project_root, run, tmp_path):
    whole = run('whole')
    with pytest.raises(SystemExit) as left:
        run('stopped', number=signal.SIGTERM)
    assert left.value.code == 75
    saved = tmp_path / 'stopped' / 'interrupted.pth'
    assert (tmp_path / 'stopped' / 'last_checkpoint').read_text() == str(saved)
    assert torch.load(saved, weights_only=False)['meta']['iter'] == 4, 'not after a complete update'
    (log,) = (tmp_path / 'stopped').glob('*/*.log')
    (line,) = (line for line in log.read_text().splitlines() if 'SIGTERM' in line)
    said = line.partition('WARNING')[2]
    assert re.match(shows(saved, '--resume') + r'(?=.*\b4\b)', said)
    assert_same_run(run('resumed', resume=saved) / 'iter_6.pth', whole / 'iter_6.pth')


def without_model():
    """Stand-in for a runner, with the attributes that the hook uses before training."""
    return SimpleNamespace(
        train_loop=SimpleNamespace(dataloader=DataLoader([0])), val_loop=None, model=None
    )


@pytest.mark.parametrize('number', SIGNALS)
def test_signals_that_end_a_run(number):
    """Handlers exist from the first step to the end of the loop, also of one that fails."""
    hook, handler = InterruptionHook(), signal.getsignal(number)
    runner = SimpleNamespace(iter=0, cfg={})

    def loop():
        hook.before_train(without_model())
        assert signal.getsignal(number) == handler
        hook.before_train_iter(runner, 0)
        os.kill(os.getpid(), number)

    assert hook._any_rank_signalled() == 0
    hook._restore_handlers(loop)
    assert hook._any_rank_signalled() == number
    assert signal.getsignal(number) == handler

    hook.received = 0
    with pytest.raises(ZeroDivisionError):
        hook._restore_handlers(lambda: hook.before_train_iter(runner, 0) or 1 / 0)


def test_a_second_ctrl_c_ends_the_run_at_once(monkeypatch):
    hook, now = InterruptionHook(), [10.0]
    monkeypatch.setattr('time.monotonic', lambda: now[0])
    for now[0] in (10.0, 10.5):  # from the terminal and from a launcher
        hook._on_signal(signal.SIGINT, None)
    now[0] = 12.0
    hook._on_signal(signal.SIGTERM, None)
    with pytest.raises(KeyboardInterrupt):
        hook._on_signal(signal.SIGINT, None)


def test_workers_ignore_signals():
    started = multiprocessing.Event()
    loader = DataLoader(
        range(6),
        num_workers=1,
        persistent_workers=True,
        worker_init_fn=lambda worker: started.set(),
    )
    prepare_workers(loader)
    batches = iter(loader)
    assert next(batches).item() == 0 and started.is_set()
    (worker,) = batches._workers
    for number in SIGNALS:
        subprocess.run(['kill', f'-{int(number)}', str(worker.pid)], check=True)
    assert [batch.item() for batch in batches] == [1, 2, 3, 4, 5]


def test_buffers_of_another_number_of_ranks_are_ignored():
    """A checkpoint of two ranks, resumed by one, which keeps the buffers of the state dict."""
    hook = InterruptionHook()
    hook.after_load_checkpoint(
        SimpleNamespace(_resume=True), dict(buffers_of_processes=[dict(mean=1), dict(mean=2)])
    )
    hook.before_train(without_model())
    assert hook.buffers == [] and hook.group is None


def test_outside_the_main_thread():
    """Python lets only the main thread set handlers, and a server trains in another one."""
    hook, errors = InterruptionHook(), []

    def step():
        try:
            hook.before_train_iter(SimpleNamespace(iter=0, cfg={}), 0)
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=step)
    thread.start()
    thread.join()
    assert not errors and not hook.previous
