"""Augmentation as a function of (seed, epoch, sample).

The host's workers draw from streams that depend on which worker got the sample and on what it
drew before: another number of workers, or a resumed run, sees other crops. Here the sampler
hands out a key instead of a bare index and the data set seeds every sample by its key.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from mmengine.dataset import BaseDataset, DefaultSampler
from mmengine.registry import DATASETS as ROOT_DATASETS

from ..registry import DATA_SAMPLERS, DATASETS


class SampleKey(NamedTuple):
    """What one sample's augmentation depends on, and nothing else."""

    seed: int
    epoch: int
    index: int


@DATA_SAMPLERS.register_module()
class SeededSampler(DefaultSampler):
    """mmengine's ``DefaultSampler``, yielding a :class:`SampleKey` instead of an index."""

    def __iter__(self) -> Iterator[SampleKey]:
        return (SampleKey(self.seed, self.epoch, index) for index in super().__iter__())


@DATASETS.register_module()
class SeededDataset:
    """Give every sample of a data set its own random stream.

    A bare index counts as seed 0 and epoch 0: under the host's samplers (validation, data
    browsing) a sample looks the same every time.

    Args:
        dataset (dict | BaseDataset): Any mmengine data set. Its transforms may draw from
            ``random``, ``numpy.random`` and ``torch``.
    """

    def __init__(self, dataset: dict | BaseDataset):
        self.dataset = ROOT_DATASETS.build(dataset) if isinstance(dataset, dict) else dataset

    def __getitem__(self, key: SampleKey | int):
        key = key if isinstance(key, SampleKey) else SampleKey(0, 0, int(key))
        with seeded(key):
            return self.dataset[key.index]

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def metainfo(self) -> dict:
        return self.dataset.metainfo

    def full_init(self):
        self.dataset.full_init()

    def get_data_info(self, index: int) -> dict:
        return self.dataset.get_data_info(index)


@contextmanager
def seeded(key: SampleKey):
    """Seed Python's, NumPy's and torch's CPU generators by ``key``; restore them afterwards.

    Restored, because without workers the data set runs in the training process, whose own
    stream (dropout, say) must not depend on the data.
    """
    saved = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence(key).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.default_generator.manual_seed(int(words[2]))
    try:
        yield
    finally:
        random.setstate(saved[0])
        np.random.set_state(saved[1])
        torch.set_rng_state(saved[2])
