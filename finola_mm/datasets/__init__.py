"""Data sets: per-sample randomness, replacement of unreadable files, crops, the visible block."""

from .bad_samples import BadSampleTracker
from .collate import default_collate
from .decoding import LoadImageFromFile
from .image_files import evenly_spaced, find_images, list_images
from .labelled_data import LabelledData, labelled_data
from .load_random_resized_crop import LoadRandomResizedCrop
from .random_block import RandomBlock
from .seeded_dataset import (
    SampleKey,
    SeededDataset,
    SeededInfiniteSampler,
    SeededSampler,
    innermost_datasets,
    nest_arguments,
    preserve_rng_state,
    seeded,
)

__all__ = [
    'BadSampleTracker',
    'LabelledData',
    'LoadImageFromFile',
    'LoadRandomResizedCrop',
    'RandomBlock',
    'SampleKey',
    'SeededDataset',
    'SeededInfiniteSampler',
    'SeededSampler',
    'default_collate',
    'evenly_spaced',
    'find_images',
    'innermost_datasets',
    'labelled_data',
    'list_images',
    'nest_arguments',
    'preserve_rng_state',
    'seeded',
]
