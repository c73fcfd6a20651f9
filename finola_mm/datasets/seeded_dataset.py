"""Augmentation as a function of (seed, epoch, sample index).

In MMEngine the augmentation of a sample depends on the worker that loads it and on that worker's
earlier draws, hence on the number of workers and on where a run was resumed. Here the sampler
yields a key instead of a bare index, and the data set seeds the augmentation with the sample's key.
"""

import errno
import logging
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset, DefaultSampler, InfiniteSampler
from mmengine.logging import print_log
from mmengine.registry import DATASETS as ROOT_DATASETS
from torch.utils.data import get_worker_info

from ..errors import BadDataError
from ..registry import DATA_SAMPLERS, DATASETS
from .bad_samples import BadSampleTracker

# Attempts per sample. With 1 % bad samples, all ten fail once in 10^20 samples; with 10 %, once in
# 10^10. An error in the pipeline, which fails every time, stops the run immediately.
ATTEMPTS = 10

# Errors that indicate a storage outage, after which the same file is read again, and the seconds to
# wait before each retry. Ten attempts wait 6 minutes, less than NCCL's timeout of 10 minutes.
OUTAGES = {
    errno.EIO, errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH,
    errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.ECONNREFUSED, errno.ECONNRESET,
    errno.ECONNABORTED, errno.ENOTCONN, errno.ESHUTDOWN,
}  # fmt: skip
PAUSES = (1, 5, 30)


class SampleKey(NamedTuple):
    """The values that determine the augmentation of a sample."""

    seed: int
    epoch: int
    sample_idx: int


@DATA_SAMPLERS.register_module()
class SeededSampler(DefaultSampler):
    """MMEngine's ``DefaultSampler``, yielding a :class:`SampleKey` instead of an index."""

    skipped = 0  # number of samples to skip in the next iteration

    def __iter__(self) -> Iterator[SampleKey]:
        indices = islice(super().__iter__(), self.skipped, None)
        self.skipped = 0
        return (SampleKey(self.seed, self.epoch, index) for index in indices)

    def start_epoch_at(self, num_samples: int) -> None:
        """Skip the first ``num_samples`` samples of this rank in the next iteration only.

        The method is not named ``skip`` because MMEngine's iteration-based loop calls a method of
        that name with a count over all epochs.
        """
        if not 0 <= num_samples <= len(self):
            raise ValueError(
                f'cannot start at sample {num_samples}: an epoch has {len(self)} samples per rank'
            )
        self.skipped = num_samples


@DATA_SAMPLERS.register_module()
class SeededInfiniteSampler(InfiniteSampler):
    """MMEngine's ``InfiniteSampler``, yielding a :class:`SampleKey`.

    All ranks together visit the data set once per epoch, in the order of ``SeededSampler`` on one
    rank. If the epoch is not divisible by the number of ranks, a rank may start the next epoch
    while another finishes this one.
    """

    def skip(self, num_samples: int) -> None:
        """Start after ``num_samples`` samples of this rank, counted from the start of the run."""
        if num_samples < 0:
            raise ValueError(f'num_samples is {num_samples}; it must not be negative')
        self.indices = self._indices_of_rank(num_samples)

    def _indices_of_rank(self, skipped: int = 0) -> Iterator[SampleKey]:
        # Positions count over all epochs and ranks; this rank takes every world_size-th one.
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
    """Give every sample of a data set its own random stream, and replace unreadable samples.

    A bare index means seed 0 and epoch 0: with MMEngine's samplers (validation, data browsing) a
    sample is augmented the same way every time.

    If the data set raises, or its pipeline returns None, another sample replaces it, drawn as a
    function of (seed, epoch, index, attempt). Each bad file is logged once and counted in
    ``bad_samples``. After a storage error (``OUTAGES``) the same sample is first read again.

    Everything else, such as ``metainfo`` or ``get_subset_``, is the wrapped data set's.

    Args:
        dataset (dict | BaseDataset): Any MMEngine data set. Its transforms may draw from
            ``random``, ``numpy.random`` and ``torch``.
        max_bad_share (float): Share of bad samples, among those seen by this rank and its workers,
            above which the run stops. At least 1000 samples (or all) count as seen. Defaults to
            0.01.
        kwargs: Arguments of the wrapped data set, such as ``pipeline`` or ``indices``. They take
            precedence over those in ``dataset`` (see :func:`nest_arguments`).

    Raises:
        BadDataError: when a sample is fetched, if too many samples are bad, or ten in a row.
    """

    def __init__(self, dataset: dict | BaseDataset, *, max_bad_share: float = 0.01, **kwargs: Any):
        if isinstance(dataset, dict):
            cfg = nest_arguments(dict(type='SeededDataset', dataset=dataset, **kwargs))
            dataset = ROOT_DATASETS.build(cfg['dataset'])
        elif kwargs:
            raise TypeError(f'{list(kwargs)} cannot be set: the data set is already built')
        self.dataset = dataset
        self.bad_samples = BadSampleTracker(self.dataset, max_bad_share)

    def __getitem__(self, key: SampleKey | int):
        key = key if isinstance(key, SampleKey) else SampleKey(0, 0, int(key))
        for attempt in range(ATTEMPTS):
            sample = self._try(key, attempt)
            if sample is not None:
                return sample
        raise self.bad_samples.error(f'{ATTEMPTS} samples in a row')

    def _try(self, key: SampleKey, attempt: int):
        """Load the sample of ``key``, or a replacement on later attempts; None if it is bad."""
        for pause in (*PAUSES, None):
            with seeded((*key, attempt) if attempt else key):
                index = random.randrange(len(self)) if attempt else key.sample_idx
                try:
                    sample = self._fetch(index)
                    self.bad_samples.add_good(index)
                    return sample
                except (BadDataError, MemoryError):  # an inner data set failed; not a bad file
                    raise
                except Exception as error:  # decoders raise different types
                    if pause is None or getattr(error, 'errno', None) not in OUTAGES:
                        self.bad_samples.add_bad(index, error)
                        return None
                    message = (
                        f'Cannot read {self.bad_samples.name(index)}: {type(error).__name__}: '
                        f'{error}. Retrying in {pause} s.'
                    )
                    print_log(message, logger='current', level=logging.WARNING)
                    time.sleep(pause)

    def _fetch(self, index: int):
        # MMEngine's __getitem__ silently replaces None with another sample.
        hides = type(self.dataset).__getitem__ is BaseDataset.__getitem__
        sample = self.dataset.prepare_data(index) if hides else self.dataset[index]
        if sample is None:
            raise ValueError('the pipeline returned None')
        return sample

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == 'dataset':  # __getitems__ would bypass the seeds
            raise AttributeError(name)
        return getattr(self.dataset, name)

    @property
    def pipeline(self):
        """The data set's transforms; mmdet's and mmpretrain's browsing tools set their own."""
        return self.dataset.pipeline

    @pipeline.setter
    def pipeline(self, pipeline):
        self.dataset.pipeline = pipeline

    def get_data_info(self, key: SampleKey | int) -> dict:
        """Also accept a key, as passed by mmdet's ``AspectRatioBatchSampler``."""
        return self.dataset.get_data_info(key.sample_idx if isinstance(key, SampleKey) else key)


def nest_arguments(cfg: dict) -> dict:
    """Move the wrapped data set's arguments in the config of a ``SeededDataset`` to ``dataset``.

    Our configs set the pipeline of evaluation beside ``dataset``, where mmpretrain's inferencers
    read it. A config that derives from ours may also have one in ``dataset``, which is then used.
    Configs of other data sets are returned unchanged.
    """
    if not str(cfg.get('type')).endswith('SeededDataset') or 'dataset' not in cfg:
        return cfg
    own = {name: cfg[name] for name in ('type', 'dataset', 'max_bad_share') if name in cfg}
    inner = {**own['dataset'], **{name: cfg[name] for name in cfg if name not in own}}
    older = own['dataset'].get('pipeline')
    if {'dataset', 'datasets'} & set(inner) and not older:
        inner.pop('pipeline', None)  # such as ConcatDataset: its data sets have their own
    elif older and inner['pipeline'] != older:
        message = (
            'dataset.pipeline is ignored, since dataset.dataset.pipeline differs from it and takes '
            'precedence; set the pipeline there'
        )
        print_log(message, logger='current', level=logging.WARNING)
        inner['pipeline'] = older
    return ConfigDict({**own, 'dataset': inner})


def innermost_datasets(node: Any) -> Iterator[dict]:
    """Yield the configs of the data sets inside wrappers, such as ``SeededDataset``.

    node: the config of a data set, or a list of them.
    """
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from innermost_datasets(item)
    elif isinstance(node, dict):
        node = nest_arguments(node)
        wrapped = node.get('dataset') or node.get('datasets')
        if wrapped:
            yield from innermost_datasets(wrapped)
        else:
            yield node


@contextmanager
def seeded(key: Sequence[int]) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's CPU generators with ``key``; restore them afterwards.

    Without workers, the data set runs in the training process, whose own random numbers (such as
    dropout's) must not depend on the data. In a worker nothing else uses the generators, so they
    are not restored.
    """
    words = np.random.SeedSequence(key).generate_state(3)
    with preserve_rng_state() if get_worker_info() is None else nullcontext():
        random.seed(int(words[0]))
        np.random.seed(words[1])
        torch.default_generator.manual_seed(int(words[2]))
        yield


@contextmanager
def preserve_rng_state() -> Iterator[None]:
    """Restore the state of Python's, NumPy's and torch's CPU generators on exit."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
