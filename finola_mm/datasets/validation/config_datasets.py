"""Find the data sets of a config's data loaders."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS

from ..seeded_dataset import innermost_datasets


def find_datasets(cfg: Config, split: str) -> Iterator[dict]:
    """Yield the configs of a split's innermost data sets that have a local ``data_root``."""
    for dataset in innermost_datasets((cfg.get(f'{split}_dataloader') or {}).get('dataset')):
        if dataset.get('data_root') and '://' not in dataset['data_root']:
            yield dataset


def get_dataset_class(cfg: Config, dataset: dict) -> Any:
    """Return the registered class of a data set's config, or None if there is none."""
    name, scope = dataset.get('type', ''), cfg.get('default_scope')
    return DATASETS.get(name if '.' in name or not scope else f'{scope}.{name}')
