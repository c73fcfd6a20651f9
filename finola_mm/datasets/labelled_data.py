"""Labelled images for kNN and linear evaluation: the config's own data, with its class folders.

Pre-training ignores labels. Here the same training and validation images are read with labels,
through the validation pipeline.
"""

import copy
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.dataset import BaseDataset

from ..errors import NoLabelsError, list_names
from ..registry import DATASETS
from .seeded_dataset import innermost_datasets, nest_arguments

REMEDY = (
    'Each split must contain the same class folders (the layout of ImageNet), or specify a list of '
    'paths and class numbers (ann_file).'
)


class LabelledData(NamedTuple):
    """Data sets of labelled images: a bank of known images, and queries to classify."""

    bank: BaseDataset
    queries: BaseDataset


def labelled_data(
    cfg: Config, *, bank: dict | None = None, queries: dict | None = None
) -> LabelledData:
    """Build the bank from a config's training images and the queries from its validation images.

    bank, queries: configs of data sets to use instead, with labels and their own pipelines.

    Raises:
        NoLabelsError: images without labels, no validation data, or different classes.
    """
    if queries is None:
        if not cfg.get('val_dataloader'):
            raise NoLabelsError(
                'there is no validation data (--no-validate, or none in the config). Run '
                'tools/analysis/knn.py with a config for the same encoder that has validation data.'
            )
        queries = _change_innermost(cfg.val_dataloader.dataset, with_label=True)
    if bank is None:
        pipeline = next(innermost_datasets(queries))['pipeline']
        bank = _change_innermost(cfg.train_dataloader.dataset, with_label=True, pipeline=pipeline)
    data = LabelledData(_build(bank, 'training'), _build(queries, 'validation'))
    known, asked = (dataset.metainfo.get('classes') for dataset in data)
    if known and asked and tuple(known) != tuple(asked):
        raise NoLabelsError(
            'training and validation images must have the same classes in the same order; only in '
            f'training: {list_names(sorted({*known} - {*asked})) or "none"}; only in validation: '
            f'{list_names(sorted({*asked} - {*known})) or "none"}. {REMEDY}'
        )
    return data


def _change_innermost(dataset: dict, **settings: Any) -> dict:
    """Copy the config of a data set, and change settings of the data sets inside wrappers."""
    dataset = {**nest_arguments(copy.deepcopy(dataset))}
    if 'dataset' in dataset:
        dataset['dataset'] = _change_innermost(dataset['dataset'], **settings)
    elif 'datasets' in dataset:
        dataset['datasets'] = [_change_innermost(d, **settings) for d in dataset['datasets']]
    else:
        dataset.update(settings)
    return dataset


def _build(dataset: dict, name: str) -> BaseDataset:
    # mmpretrain's CustomDataset raises RuntimeError without class folders. In a list without
    # labels, it fails to convert the last word to a number (ValueError).
    try:
        return DATASETS.build(dataset)
    except (RuntimeError, ValueError) as error:
        raise NoLabelsError(f'the {name} images have no labels ({error}). {REMEDY}') from error
