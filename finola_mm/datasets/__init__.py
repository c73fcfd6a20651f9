"""Data: per-sample randomness, the visible block."""

from .bad_samples import BadDataError, BadSamples
from .image_files import IMAGE_SUFFIXES, find_images
from .labelled_data import LabelledData, NoLabelsError, labelled_data
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
    'IMAGE_SUFFIXES',
    'LabelledData',
    'LoadRandomResizedCrop',
    'NoLabelsError',
    'RandomBlock',
    'SampleKey',
    'SeededDataset',
    'SeededInfiniteSampler',
    'SeededSampler',
    'find_images',
    'labelled_data',
    'seeded',
]
