"""Augmentation as a function of (seed, epoch, sample).

The host's workers draw from streams that depend on which worker got the sample and on what it
drew before: another number of workers, or a resumed run, sees other crops. Here the sampler
hands out a key instead of a bare index and the data set seeds every sample by its key.
"""

import errno
import logging
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from mmengine.dataset import BaseDataset, DefaultSampler, InfiniteSampler
from mmengine.logging import print_log
from mmengine.registry import DATASETS as ROOT_DATASETS
from torch.utils.data import get_worker_info

from ..registry import DATA_SAMPLERS, DATASETS
from .bad_samples import BadDataError, BadSamples

# Tries for one sample. At the default share of 1 % all of them fail once in 10^20 samples, at 10 %
# once in 10^10; a mistake in the pipeline, where every one fails, ends the run at once.
ATTEMPTS = 10

# Errors of a storage that is away for a while, not of a file, and the seconds to wait before the
# same file is read again. Ten attempts wait 6 minutes, below the 10 after which NCCL gives up.
OUTAGES = frozenset(
    {
        errno.EIO,
        errno.ESTALE,
        errno.EAGAIN,
        errno.ETIMEDOUT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENETRESET,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.ENOTCONN,
        errno.ESHUTDOWN,
    }
)
PAUSES = (1, 5, 30)


class SampleKey(NamedTuple):
    """What one sample's augmentation depends on, and nothing else."""

    seed: int
    epoch: int
    index: int


@DATA_SAMPLERS.register_module()
class SeededSampler(DefaultSampler):
    """mmengine's ``DefaultSampler``, yielding a :class:`SampleKey` instead of an index."""

    skipped = 0  # samples that the next iteration leaves out

    def __iter__(self) -> Iterator[SampleKey]:
        indices = islice(super().__iter__(), self.skipped, None)
        self.skipped = 0
        return (SampleKey(self.seed, self.epoch, index) for index in indices)

    def start_epoch_at(self, num_samples: int) -> None:
        """Start the next iteration, and only that one, ``num_samples`` of this rank's later.

        For an epoch that is resumed in its middle: what was consumed is not loaded again. Not
        named ``skip``: mmengine's loop over iterations takes that to count all epochs.
        """
        if not 0 <= num_samples <= len(self):
            raise ValueError(
                f'cannot start at sample {num_samples}: an epoch has {len(self)} on each process'
            )
        self.skipped = num_samples


@DATA_SAMPLERS.register_module()
class SeededInfiniteSampler(InfiniteSampler):
    """mmengine's ``InfiniteSampler``, yielding a :class:`SampleKey`.

    All ranks together go through the data set once an epoch, in the order in which
    ``SeededSampler`` does on one rank. Where the epoch does not divide by the ranks, one starts
    the next epoch while another ends this one.
    """

    def skip(self, num_samples: int) -> None:
        """Start after ``num_samples`` of this rank's, counted from the start of the run.

        Takes as long as one epoch's shuffling, however many epochs lie behind.
        """
        if num_samples < 0:
            raise ValueError(f'cannot skip {num_samples} samples: the number must not be negative')
        self.indices = self._indices_of_rank(num_samples)

    def _indices_of_rank(self, skipped: int = 0) -> Iterator[SampleKey]:
        # Positions count through all epochs and ranks; this rank has every world_size-th.
        position = self.rank + skipped * self.world_size
        while True:
            epoch, first = divmod(position, self.size)
            mine = self._order(epoch)[first :: self.world_size]
            for index in mine:
                yield SampleKey(self.seed, epoch, index)
            position += len(mine) * self.world_size

    def _order(self, epoch: int) -> list[int]:
        if not self.shuffle:
            return list(range(self.size))
        generator = torch.Generator().manual_seed(self.seed + epoch)
        return torch.randperm(self.size, generator=generator).tolist()


@DATASETS.register_module()
class SeededDataset:
    """Give every sample of a data set its own random stream, and replace those that cannot be read.

    A bare index counts as seed 0 and epoch 0: under the host's samplers (validation, data
    browsing) a sample looks the same every time.

    Where the data set raises, or its pipeline returns None, another sample takes the place, drawn
    as a function of (seed, epoch, index, attempt). Each bad file is reported once.
    ``bad_samples`` holds their number and names. Where the storage is away (``OUTAGES``), the same
    sample is first tried again, with pauses.

    Args:
        dataset (dict | BaseDataset): Any mmengine data set. Its transforms may draw from
            ``random``, ``numpy.random`` and ``torch``.
        max_bad_share (float): Above this share of bad samples among those seen by this process
            and its workers, judged as if at least 1000 (or all) had been seen, the run stops.
            Defaults to 0.01.

    Raises:
        BadDataError: when a sample is fetched; too many are bad, or ten in a row.
    """

    def __init__(self, dataset: dict | BaseDataset, *, max_bad_share: float = 0.01):
        self.dataset = ROOT_DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.bad_samples = BadSamples(self.dataset, max_bad_share)

    def __getitem__(self, key: SampleKey | int):
        key = key if isinstance(key, SampleKey) else SampleKey(0, 0, int(key))
        for attempt in range(ATTEMPTS):
            sample = self._try(key, attempt)
            if sample is not None:
                return sample
        raise self.bad_samples.error(f'{ATTEMPTS} samples in a row')

    def _try(self, key: SampleKey, attempt: int):
        """The sample of ``key``, at later attempts one in its place; None if it is bad."""
        for pause in (*PAUSES, None):
            with seeded((*key, attempt) if attempt else key):
                index = random.randrange(len(self)) if attempt else key.index
                try:
                    sample = self._fetch(index)
                except (BadDataError, MemoryError):  # of a data set inside this one; of the machine
                    raise
                except Exception as error:
                    if pause is None or getattr(error, 'errno', None) not in OUTAGES:
                        self.bad_samples.add_bad(index, error)
                        return None
                    name = self.bad_samples.name(index)
                    reason = f'{type(error).__name__}: {error}'
                else:
                    self.bad_samples.add_good(index)
                    return sample
            message = f'Cannot read {name} now: {reason}. The next try is in {pause} s.'
            print_log(message, logger='current', level=logging.WARNING)
            time.sleep(pause)

    def _fetch(self, index: int):
        # mmengine's own __getitem__ hides a None behind another sample that nobody counts.
        hides = type(self.dataset).__getitem__ is BaseDataset.__getitem__
        sample = self.dataset.prepare_data(index) if hides else self.dataset[index]
        if sample is None:
            raise ValueError('its pipeline returned None')
        return sample

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def metainfo(self) -> dict:
        return self.dataset.metainfo

    @property
    def pipeline(self):
        """The data set's transforms; the host's browsing tools replace them by their own."""
        return self.dataset.pipeline

    @pipeline.setter
    def pipeline(self, pipeline):
        self.dataset.pipeline = pipeline

    def full_init(self):
        self.dataset.full_init()

    def get_data_info(self, key: SampleKey | int) -> dict:
        """mmdet's ``AspectRatioBatchSampler`` asks for what the sampler yields."""
        return self.dataset.get_data_info(key.index if isinstance(key, SampleKey) else key)


@contextmanager
def seeded(key: Sequence[int]):
    """Seed Python's, NumPy's and torch's CPU generators by ``key``; restore them afterwards.

    Restored, because without workers the data set runs in the training process, whose own
    stream (dropout, say) must not depend on the data. A worker process has no other use for the
    streams and saves the time.
    """
    own = get_worker_info() is None
    saved = (random.getstate(), np.random.get_state(), torch.get_rng_state()) if own else None
    words = np.random.SeedSequence(key).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.default_generator.manual_seed(int(words[2]))
    try:
        yield
    finally:
        if saved:
            random.setstate(saved[0])
            np.random.set_state(saved[1])
            torch.set_rng_state(saved[2])
