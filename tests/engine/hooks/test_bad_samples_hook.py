"""Unreadable files are logged during and after a run, and wherever they affect a metric."""

import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import BaseDataset, ConcatDataset
from mmengine.runner.runner import _SlicedDataset
from torch.distributed import init_process_group
from torch.multiprocessing import start_processes
from torch.utils.data import Subset

from finola_mm.datasets import SeededDataset
from finola_mm.engine import BadSamplesHook


class Images(BaseDataset):
    def load_data_list(self):
        return [dict(img_path=f'{i}.jpg') for i in range(100)]


def images(bad=()):
    dataset = SeededDataset(Images(), max_bad_share=1)
    for index in range(80):
        dataset.bad_samples.add_good(index)
    dataset.bad_samples.states[list(bad)] = 2
    return dataset


def report(dataset, stage='after_train', *args):
    runner = fake_runner(dataset)
    getattr(BadSamplesHook(), stage)(runner, *args)
    return runner.logged


def fake_runner(dataset, *, resume=False):
    logged = []
    loader = SimpleNamespace(dataset=dataset)
    return SimpleNamespace(
        iter=60,
        _resume=resume,
        logged=logged,
        logger=SimpleNamespace(warning=logged.append),
        train_dataloader=loader,
        val_dataloader=loader,
        test_dataloader=loader,
    )


def numbers(line):
    """Return the integers of a line of the log, without those in names and percentages."""
    return {int(number) for number in re.findall(r'(?<![\w.])\d+(?!\.?\w|%)', line)}


def names(line):
    return re.findall(r'\d+\.jpg', line)


def test_log_at_the_end_of_training():
    (line,) = report(images(bad=[3, 90]))
    assert numbers(line) == {2, 81} and '2.47%' in line
    assert names(line) == ['3.jpg', '90.jpg']


@pytest.mark.parametrize(
    'stage, seen', [('after_val_epoch', {60, 1, 80}), ('after_test_epoch', {1, 80})]
)
def test_log_with_a_metric(stage, seen):
    (line,) = report(images(bad=[3]), stage, {})
    assert numbers(line) == seen and '1.25%' in line
    assert 'metric' in line


def test_log_of_new_files_during_training():
    dataset = images(bad=[3])
    runner, hook = fake_runner(dataset), BadSamplesHook(interval=10)
    for runner.iter in range(20):  # reports after the 10th and the 20th iteration
        hook.after_train_iter(runner, runner.iter)
    dataset.bad_samples.states[[5, 90]] = 2
    runner.iter = 20
    hook.after_train_epoch(runner)
    first, second = runner.logged
    assert numbers(first) == {10, 1, 80} and names(first) == ['3.jpg']
    assert numbers(second) == {20, 3, 81} and names(second) == ['5.jpg', '90.jpg']


def save_and_load(hook, path, runner):
    """Return the hook of a run that resumes from a checkpoint of ``hook``."""
    checkpoint = {}
    hook.before_save_checkpoint(runner, checkpoint)
    torch.save(checkpoint, path)
    other = BadSamplesHook()
    other.after_load_checkpoint(runner, torch.load(path, weights_only=True))
    return other


@pytest.mark.parametrize(
    'resume, expected',
    [
        (True, {3, 82}),  # 80 in both halves, 90 and 91
        (False, {2, 81}),  # load_from: the weights of another run, not its data
    ],
)
def test_a_resumed_run_continues_counting(tmp_path, resume, expected):
    hook, runner = BadSamplesHook(), fake_runner(images(bad=[3, 90]))
    hook.after_train_epoch(runner)
    later = fake_runner(images(bad=[3, 91]), resume=resume)
    hook = save_and_load(hook, tmp_path / 'checkpoint.pth', later)
    hook.after_train_epoch(later)
    (new,) = later.logged
    assert names(new) == (['91.jpg'] if resume else ['3.jpg', '91.jpg'])
    hook.after_train(later)
    assert numbers(later.logged[1]) == expected


def test_the_status_of_other_data_is_ignored(tmp_path):
    hook, runner = BadSamplesHook(), fake_runner(images(bad=[3]), resume=True)
    hook.after_train_epoch(runner)
    hook = save_and_load(hook, tmp_path / 'checkpoint.pth', runner)
    other = fake_runner(concatenation(images([4]), images()))
    hook.after_train(other)
    assert numbers(other.logged[0]) == {1, 80}


def test_nothing_is_saved_without_a_tracker(tmp_path):
    hook, runner, checkpoint = BadSamplesHook(), fake_runner(Images()), {}
    hook.after_train_epoch(runner)
    hook.before_save_checkpoint(runner, checkpoint)
    assert checkpoint == {}


def test_long_lists_are_shortened():
    (line,) = report(images(bad=range(60)))
    assert numbers(line) == {60, 80, 10} and names(line) == [f'{i}.jpg' for i in range(50)]


class Wrapper:
    def __init__(self, dataset):
        self.dataset = dataset


def concatenation(*datasets):
    dataset = ConcatDataset([Images()])
    dataset.datasets = datasets
    return dataset


@pytest.mark.parametrize(
    'wrap',
    [
        Wrapper,
        lambda data: Subset(data, [1]),
        lambda data: Wrapper(Wrapper(data)),
        lambda data: _SlicedDataset(data, 10),  # MMEngine's num_batch_per_epoch
    ],
)
def test_trackers_inside_wrappers(wrap):
    (line,) = report(wrap(images(bad=[3])))
    assert '3.jpg' in line


def test_each_part_of_a_concatenation_has_its_own_tracker():
    first, second = report(concatenation(images([3]), images(), Images(), images([5])))
    assert '3.jpg' in first and '5.jpg' in second


@pytest.mark.parametrize('dataset', [[1, 2], Images(), Wrapper(Images()), images()], ids=type)
def test_silent_without_bad_samples(dataset):
    assert report(dataset) == []


def run_rank(rank, folder):
    init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    (folder / str(rank)).write_text('\n'.join(report(images(bad=[3 + rank]))))


def test_ranks_combine_their_trackers(tmp_path):
    start_processes(run_rank, (tmp_path,), nprocs=2, start_method='fork')
    for rank in (0, 1):
        text = (tmp_path / str(rank)).read_text()
        assert numbers(text) == {2, 80} and names(text) == ['3.jpg', '4.jpg']
