"""A sample is a function of (seed, epoch, index), for any worker and any history."""

import pickle
import random
from itertools import islice

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import DataLoader

from finola_mm.datasets import (
    SampleKey,
    SeededDataset,
    SeededInfiniteSampler,
    SeededSampler,
    nest_arguments,
)
from tests.messages import shows


def draw(results):
    """A transform that draws from all generators."""
    return dict(
        index=results['sample_idx'],
        draws=(random.random(), np.random.rand(), torch.rand(()).item()),
    )


@pytest.fixture
def dataset():
    inner = BaseDataset(pipeline=[draw], lazy_init=True)
    inner.load_data_list = lambda: [dict(id=i) for i in range(12)]
    inner.full_init()
    return SeededDataset(inner)


def load(dataset, *, seed=0, epoch=0, **kwargs):
    """index -> draws of one epoch."""
    sampler = SeededSampler(dataset, seed=seed)
    sampler.set_epoch(epoch)
    loader = DataLoader(dataset, 2, sampler=sampler, collate_fn=list, **kwargs)
    return {sample['index']: sample['draws'] for batch in loader for sample in batch}


def test_workers_do_not_matter(dataset):
    alone = load(dataset)
    assert len(alone) == 12
    assert alone == load(dataset, num_workers=1) == load(dataset, num_workers=3)


def test_persistent_workers_see_the_epoch(dataset):
    sampler = SeededSampler(dataset, seed=3)
    loader = DataLoader(
        dataset, 2, sampler=sampler, collate_fn=list, num_workers=2, persistent_workers=True
    )
    for epoch in range(3):
        sampler.set_epoch(epoch)
        seen = {sample['index']: sample['draws'] for batch in loader for sample in batch}
        assert seen == load(dataset, seed=3, epoch=epoch)


def test_seed_epoch_and_index_all_matter(dataset):
    drawn = [dataset[SampleKey(*key)]['draws'] for key in np.ndindex(2, 3, 12)]
    assert len(set(drawn)) == 2 * 3 * 12


def test_the_streams_are_those_of_a_seed_sequence(dataset):
    """A run of an older version, resumed, gets the same crops."""
    words = np.random.SeedSequence([5, 6, 7]).generate_state(3)
    expected = (
        random.Random(int(words[0])).random(),
        np.random.RandomState(words[1]).rand(),
        torch.rand((), generator=torch.Generator().manual_seed(int(words[2]))).item(),
    )
    assert dataset[SampleKey(5, 6, 7)]['draws'] == expected


def test_the_process_keeps_its_own_streams(dataset):
    def own_stream(look):
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
        before = random.random(), np.random.rand(), torch.rand(()).item()
        if look:
            dataset[SampleKey(1, 2, 3)]
        return before, (random.random(), np.random.rand(), torch.rand(()).item())

    assert own_stream(look=True) == own_stream(look=False)


def test_a_bare_index_is_the_same_sample_every_time(dataset):
    assert dataset[4] == dataset[4] == dataset[SampleKey(0, 0, 4)]


def test_ranks_share_the_epoch_without_overlap(dataset, monkeypatch):
    keys = []
    for rank in range(3):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 3))
        keys += list(SeededSampler(dataset, seed=7))
    assert sorted(key.sample_idx for key in keys) == list(range(12))
    assert {(key.seed, key.epoch) for key in keys} == {(7, 0)}


def test_start_epoch_at_leaves_out_the_start_of_one_epoch(dataset):
    sampler = SeededSampler(dataset, seed=7)
    for num_samples in (0, 5, 12):
        sampler.set_epoch(2)
        whole = list(sampler)
        sampler.start_epoch_at(num_samples)
        assert list(sampler) == whole[num_samples:]
        sampler.set_epoch(3)
        assert len(list(sampler)) == 12
    for num_samples in (13, -1):
        with pytest.raises(ValueError, match=shows(num_samples, 12)):
            sampler.start_epoch_at(num_samples)


def test_start_epoch_at_counts_this_ranks_samples(dataset, monkeypatch):
    for rank in range(3):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 3))
        sampler = SeededSampler(dataset, seed=7)
        whole = list(sampler)
        sampler.start_epoch_at(3)
        assert list(sampler) == whole[3:] and len(whole) == 4


def infinite(dataset, monkeypatch, rank=0, world_size=1, **kwargs):
    rank_and_size = rank, world_size
    monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: rank_and_size)
    return SeededInfiniteSampler(dataset, seed=7, **kwargs)


def test_the_infinite_sampler_is_epoch_after_epoch(dataset, monkeypatch):
    epochs = SeededSampler(dataset, seed=7)
    expected = []
    for epoch in range(4):
        epochs.set_epoch(epoch)
        expected += list(epochs)
    assert list(islice(infinite(dataset, monkeypatch), 48)) == expected
    plain = list(islice(infinite(dataset, monkeypatch, shuffle=False), 30))
    assert plain == [SampleKey(7, i // 12, i % 12) for i in range(30)]


@pytest.mark.parametrize('world_size', [2, 3, 5, 7, 13])  # 5, 7 and 13 do not divide 12
def test_the_ranks_take_turns(dataset, monkeypatch, world_size):
    expected = list(islice(infinite(dataset, monkeypatch), 60 * world_size))
    ranks = [
        list(islice(infinite(dataset, monkeypatch, rank, world_size), 60))
        for rank in range(world_size)
    ]
    assert [key for turn in zip(*ranks, strict=True) for key in turn] == expected


@pytest.mark.parametrize('num_samples', [0, 1, 5, 11, 12, 13, 24, 31])
def test_an_infinite_skip_is_a_plain_lists(dataset, monkeypatch, num_samples):
    for rank in range(5):
        whole = list(islice(infinite(dataset, monkeypatch, rank, 5), 80))
        sampler = infinite(dataset, monkeypatch, rank, 5)
        sampler.skip(num_samples)
        assert list(islice(sampler, 40)) == whole[num_samples : num_samples + 40]


def test_an_infinite_skip_into_the_far_future_takes_no_time(dataset, monkeypatch):
    sampler = infinite(dataset, monkeypatch)
    sampler.skip(12 * 10**12 + 3)
    assert next(iter(sampler)).epoch == 10**12
    with pytest.raises(ValueError, match='-1'):
        sampler.skip(-1)


@pytest.mark.skipif(
    not hasattr(_InfiniteDataloaderIterator, 'skip_iter'),
    reason="loads the batches that it skips in OpenMMLab's MMEngine",
)
def test_mmengines_iteration_loop_resumes_without_loading(dataset):
    def batches(skipped, count):
        loader = DataLoader(
            dataset, 5, sampler=SeededInfiniteSampler(dataset, seed=7), collate_fn=list
        )
        iterator = _InfiniteDataloaderIterator(loader)
        iterator.skip_iter(skipped)
        return [next(iterator) for _ in range(count)]

    assert batches(4, 3) == batches(0, 7)[4:]


class Numbered(BaseDataset):
    METAINFO = dict(classes=('ant', 'bee'))

    def load_data_list(self):
        return [dict(id=i) for i in range(12)]


def numbered(**kwargs):
    return SeededDataset(dict(type=Numbered, pipeline=[draw]), **kwargs)


def test_the_rest_is_the_wrapped_data_sets():
    dataset = pickle.loads(pickle.dumps(numbered()))
    assert dataset.metainfo['classes'] == ('ant', 'bee')
    assert not hasattr(dataset, 'data_root_') and not hasattr(dataset, '__getitems__')
    dataset.get_subset_([7, 3])  # as mmpretrain's t-SNE
    assert [dataset[i]['index'] for i in range(len(dataset))] == [0, 1]
    assert [dataset.get_data_info(i)['id'] for i in range(2)] == [7, 3]


def test_arguments_beside_the_data_set_are_its_own():
    dataset = numbered(indices=3, metainfo=dict(classes=('cat',)), pipeline=[])
    assert len(dataset) == 3 and dataset.metainfo['classes'] == ('cat',)
    assert dataset[1] == numbered(indices=3)[1] != numbered()[2]
    with pytest.raises(TypeError, match='indices'):
        SeededDataset(Numbered(), indices=3)


def test_where_the_pipeline_is_set_twice_the_inner_one_is_used():
    """As in a config that derives from ours and predates the outer one."""
    cfg = dict(type='finola_mm.SeededDataset', pipeline=[1], dataset=dict(pipeline=[2], a=3), a=4)
    assert nest_arguments(cfg) == dict(type=cfg['type'], dataset=dict(pipeline=[2], a=4))
    concat = dict(type='ConcatDataset', datasets=[dict(pipeline=[2])])
    assert nest_arguments(dict(type=cfg['type'], pipeline=[1], dataset=concat)).dataset == concat
    other = dict(cfg, type='RepeatDataset')
    assert nest_arguments(other) is other
