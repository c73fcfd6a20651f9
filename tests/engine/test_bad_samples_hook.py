"""What could not be read is named at the end of a run and wherever it touched a metric."""

from types import SimpleNamespace

import pytest
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
    dataset.bad_samples.status[list(bad)] = 2
    return dataset


def report(dataset, stage='after_train', *args):
    logged = []
    loader = SimpleNamespace(dataset=dataset)
    runner = SimpleNamespace(
        iter=60,
        logger=SimpleNamespace(warning=logged.append),
        train_dataloader=loader,
        val_dataloader=loader,
        test_dataloader=loader,
    )
    getattr(BadSamplesHook(), stage)(runner, *args)
    return logged


def test_named_at_the_end_of_training():
    (line,) = report(images(bad=[3, 90]))
    assert line == (
        'Training: 2 of the 81 files seen could not be read; other samples took their place. '
        'Not read: 3.jpg, 90.jpg'
    )


@pytest.mark.parametrize('stage, start', [
    ('after_val_epoch', 'Validation at iteration 60: 1 of the 80 '),
    ('after_test_epoch', 'Test: 1 of the 80 '),
])
def test_a_metric_says_that_it_counts_others(stage, start):
    (line,) = report(images(bad=[3]), stage, {})
    assert line.startswith(start) and 'took their place, in the metric too.' in line


def test_many_are_not_all_named():
    (line,) = report(images(bad=range(60)))
    assert '49.jpg and 10 more' in line and '50.jpg' not in line


class Wrapper:
    def __init__(self, dataset):
        self.dataset = dataset


def concatenation(*datasets):
    dataset = ConcatDataset([Images()])
    dataset.datasets = datasets
    return dataset


@pytest.mark.parametrize('wrap', [
    Wrapper, lambda data: Subset(data, [1]), lambda data: Wrapper(Wrapper(data)),
    lambda data: _SlicedDataset(data, 10),  # what num_batch_per_epoch makes
])
def test_found_below_wrappers(wrap):
    (line,) = report(wrap(images(bad=[3])))
    assert '3.jpg' in line


def test_each_part_of_a_concatenation_has_its_own():
    first, second = report(concatenation(images([3]), images(), Images(), images([5])))
    assert '3.jpg' in first and '5.jpg' in second


@pytest.mark.parametrize('dataset', [[1, 2], Images(), Wrapper(Images()), images()], ids=type)
def test_silent_without_bad_samples(dataset):
    assert report(dataset) == []


def run_rank(rank, folder):
    init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    (folder / str(rank)).write_text('\n'.join(report(images(bad=[3 + rank]))))


def test_processes_combine_what_they_saw(tmp_path):
    start_processes(run_rank, (tmp_path,), nprocs=2, start_method='fork')
    for rank in (0, 1):
        text = (tmp_path / str(rank)).read_text()
        assert '2 of the 80 files' in text and 'Not read: 3.jpg, 4.jpg' in text
