"""Data: per-sample randomness, the visible block."""

from .bad_samples import BadDataError, BadSamples
from .load_random_resized_crop import LoadRandomResizedCrop
from .random_block import RandomBlock
from .seeded_dataset import (
    SampleKey,
    SeededDataset,
    SeededInfiniteSampler,
    SeededSampler,
    seeded,
)

__all__ = [
    'BadDataError',
    'BadSamples',
    'LoadRandomResizedCrop',
    'RandomBlock',
    'SampleKey',
    'SeededDataset',
    'SeededInfiniteSampler',
    'SeededSampler',
    'seeded',
]
