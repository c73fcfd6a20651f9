"""A sample is a function of (seed, epoch, index), whoever loads it and after whatever."""

import random

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from torch.utils.data import DataLoader

from finola_mm.datasets import SampleKey, SeededDataset, SeededSampler


def draw(results):
    """A transform that uses every generator a transform may use."""
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
    assert sorted(key.index for key in keys) == list(range(12))
    assert {(key.seed, key.epoch) for key in keys} == {(7, 0)}
