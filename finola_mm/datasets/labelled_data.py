"""The labelled images by which an encoder is judged: a config's own, with their class folders.

Pre-training leaves labels aside. Here the same training and validation images are read with
them, whole, as the validation's pipeline reads them.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple

from mmengine.config import Config, ConfigDict
from torch.utils.data import Dataset

from ..registry import DATASETS

REMEDY = (
    "The folder of each split wants one folder for each class, the same ones in both (ImageNet's "
    'layout), or a list with a path and a number on each line (ann_file)'
)


class NoLabelsError(ValueError):
    """The data has no labels, or not the same classes twice. The message is for the user."""


class LabelledData(NamedTuple):
    """Data sets of labelled images: those that are known, and those to classify."""

    bank: Dataset
    queries: Dataset
    classes: Sequence[str] | None


def labelled_data(
    cfg: Config, *, bank: dict | None = None, queries: dict | None = None
) -> LabelledData:
    """Training images as the bank, validation images as the queries, of a run's config.

    bank, queries: data sets to take instead, as configs, with labels and a pipeline of their own.

    Raises:
        NoLabelsError: images without labels, no validation data, or classes that differ.
    """
    if queries is None:
        if not cfg.get('val_dataloader'):
            raise NoLabelsError(
                'there is no validation data (--no-validate, or a config without any); '
                'tools/analysis/knn.py takes any config of the same encoder that has some'
            )
        queries = with_labels(cfg.val_dataloader.dataset)
    if bank is None:
        bank = with_labels(cfg.train_dataloader.dataset)
        innermost(bank).pipeline = innermost(queries)['pipeline']
    bank, queries = _build(bank, 'training'), _build(queries, 'validation')
    known, asked = (data.metainfo.get('classes') for data in (bank, queries))
    if known and asked and tuple(known) != tuple(asked):
        differing = sorted(set(known) ^ set(asked)) or 'their order'
        raise NoLabelsError(
            f'the classes of the training and of the validation images differ by {differing}. '
            + REMEDY
        )
    return LabelledData(bank, queries, known)


def with_labels(dataset: ConfigDict) -> ConfigDict:
    """A copy of a data set's config whose innermost part reads labels."""
    dataset = copy.deepcopy(dataset)
    innermost(dataset).with_label = True
    return dataset


def innermost(dataset: ConfigDict) -> ConfigDict:
    """The config of the data set inside its wrappers, such as ``SeededDataset``."""
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


def _build(dataset: dict, name: str) -> Dataset:
    # Without class folders mmpretrain's CustomDataset finds no image (RuntimeError); of a list
    # without labels it takes the end of the last word for a number (ValueError).
    try:
        return DATASETS.build(dataset)
    except (RuntimeError, ValueError) as error:
        raise NoLabelsError(f'the {name} images have no labels ({error}). {REMEDY}') from error
