"""Data: per-sample randomness, the visible block."""

from .random_block import RandomBlock
from .seeded_dataset import SampleKey, SeededDataset, SeededSampler, seeded

__all__ = ['RandomBlock', 'SampleKey', 'SeededDataset', 'SeededSampler', 'seeded']
