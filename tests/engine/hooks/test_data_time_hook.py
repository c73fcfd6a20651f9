"""A warning where training waits for data, and no other."""

import os
import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.distributed import init_process_group
from torch.multiprocessing import start_processes
from torch.utils.data import DataLoader, Dataset

from finola_mm.engine import DataTimeHook
from finola_mm.engine.hooks.data_time_hook import advice, cores_per_rank

STEP = 0.02  # seconds of one training step


class Clock:
    """In place of the module ``time``: passes only by ``sleep``."""

    def __init__(self):
        self.now = 0.0

    def time(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Slow(Dataset):
    def __init__(self, clock, seconds):
        self.clock, self.seconds = clock, seconds

    def __len__(self):
        return 40

    def __getitem__(self, index):
        self.clock.sleep(self.seconds)
        return dict(inputs=torch.ones(1))


class Toy(BaseModel):
    def __init__(self, clock):
        super().__init__()
        self.linear = nn.Linear(1, 1)
        self.clock = clock

    def forward(self, inputs, mode='loss'):
        self.clock.sleep(STEP)
        return dict(loss=self.linear(inputs).square().mean())


@pytest.mark.parametrize('seconds, warned', [(STEP, True), (0, False)])
def test_a_slow_data_set_is_noticed(tmp_path, monkeypatch, seconds, warned):
    clock = Clock()
    monkeypatch.setattr('mmengine.hooks.iter_timer_hook.time', clock)
    runner = Runner(
        model=Toy(clock),
        work_dir=str(tmp_path),
        train_dataloader=DataLoader(Slow(clock, seconds), 1),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=[dict(type='finola_mm.DataTimeHook', window=20, skip=5, max_share=0.3)],
        experiment_name=tmp_path.name,
        cfg=Config(dict(default_scope='mmengine')),
    )
    runner.train()
    (log,) = tmp_path.glob('*/*.log')
    lines = [line for line in log.read_text().splitlines() if 'num_workers' in line]
    lines = [line.partition('WARNING')[2] for line in lines if 'WARNING' in line]
    assert len(lines) == warned
    if warned:
        (share,) = re.findall(r'(\d+) ?%', lines[0])
        assert re.search(r'\b25\b', lines[0])  # the iteration
        assert share == '50'  # half of each iteration passes in the data set


class Log(list):
    def warning(self, message):
        self.append(message)


@pytest.fixture
def feed(request):
    """Return a stand-in runner, and a function that feeds a hook iterations of given times."""
    hub = MessageHub.get_instance(request.node.name)
    loader = DataLoader([0])
    runner = SimpleNamespace(iter=0, message_hub=hub, logger=Log(), train_dataloader=loader)

    def step(hook, data_time, total, count=1):
        for _ in range(count):
            hub.update_scalar('train/data_time', data_time)
            hub.update_scalar('train/time', total)
            hook.after_train_iter(runner, 0)
            runner.iter += 1

    yield runner, step
    MessageHub._instance_dict.pop(request.node.name)


@pytest.mark.parametrize('share, warned', [(0.19, False), (0.21, True)])
def test_the_share_is_of_the_whole_iteration(feed, share, warned):
    runner, step = feed
    hook = DataTimeHook(max_share=0.2, window=4, skip=0)
    hook.before_train(runner)
    for _ in range(2):  # workers deliver in bursts: every other batch is late
        step(hook, 0, 1)
        step(hook, 2 * share, 1)
    assert len(runner.logger) == warned


def test_not_every_window_warns(feed):
    runner, step = feed
    hook = DataTimeHook(window=5, skip=3, interval=4)
    hook.before_train(runner)
    step(hook, 1, 1, count=3 + 5 * 12)
    for line, end in zip(runner.logger, (8, 28, 48), strict=True):
        assert re.search(rf'\b{end}\b', line)


@pytest.mark.parametrize('event', ['before_save_checkpoint', 'after_val'])
def test_validation_and_checkpoints_are_not_data_loading(feed, event):
    runner, step = feed
    hook = DataTimeHook(window=5, skip=0)
    hook.before_train(runner)
    for _ in range(10):
        step(hook, 0.01, 1, count=4)
        getattr(hook, event)(runner, *([{}] if event == 'before_save_checkpoint' else []))
        step(hook, 100, 101)  # MMEngine counts the pause as data loading
    assert not runner.logger


def test_the_start_of_an_epoch_counts(feed):
    """The restart of workers is data loading, also after a checkpoint between epochs."""
    runner, step = feed
    hook = DataTimeHook(window=5, skip=0)
    hook.before_train(runner)
    hook.before_save_checkpoint(runner, {})
    hook.before_train_epoch(runner)
    step(hook, 9, 10)
    step(hook, 0, 1, count=4)
    assert len(runner.logger) == 1 and '64%' in runner.logger[0]


RAISE, PERSIST = 'train_dataloader.num_workers', 'train_dataloader.persistent_workers=True'


@pytest.mark.parametrize(
    'workers, cores, persistent, remedies',
    [
        (0, 8, False, {RAISE}),
        (2, 4, True, {RAISE}),
        (4, 4, True, set()),
        (2, 1, False, {PERSIST}),
        (2, 8, False, {RAISE, PERSIST}),
    ],
)
def test_advice(workers, cores, persistent, remedies):
    loader = SimpleNamespace(num_workers=workers, persistent_workers=persistent)
    text = advice(loader, cores)
    assert set(re.findall(r'train_dataloader\.[\w=]+', text)) == remedies
    assert {int(number) for number in re.findall(r'\b\d+\b', text)} == {workers, cores}
    assert 'tools/dataset_converters/resize_images.py' in text


def count_cores(rank, folder, affinities):
    init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    os.sched_getaffinity = lambda process: affinities[rank]  # in this process alone
    (folder / str(rank)).write_text(str(cores_per_rank()))


@pytest.mark.parametrize(
    'affinities, expected',
    [
        ([{0, 1, 2, 3}, {0, 1, 2, 3}], ['2', '2']),  # torchrun: ranks share all cores
        ([{0, 1, 2, 3}, {4, 5, 6, 7}], ['4', '4']),  # srun: each rank has its own
        ([{0}, {0}], ['1', '1']),
    ],
)
def test_ranks_share_cores(tmp_path, affinities, expected):
    start_processes(count_cores, (tmp_path, affinities), nprocs=2, start_method='fork')
    assert [(tmp_path / str(rank)).read_text() for rank in (0, 1)] == expected


def test_one_rank_has_all_cores(monkeypatch):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: set(range(6)))
    assert cores_per_rank() == 6
