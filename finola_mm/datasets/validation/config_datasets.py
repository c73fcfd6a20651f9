"""Find the data sets of a config's data loaders."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS

from ..seeded_dataset import nest_arguments


def find_datasets(cfg: Config, split: str) -> Iterator[dict]:
    """Yield the configs of a split's innermost data sets that have a local ``data_root``."""
    return _innermost((cfg.get(f'{split}_dataloader') or {}).get('dataset'))


def _innermost(node: Any) -> Iterator[dict]:
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from _innermost(item)
    elif isinstance(node, dict):
        node = nest_arguments(node)
        wrapped = node.get('dataset') or node.get('datasets')
        if wrapped:
            yield from _innermost(wrapped)
        elif node.get('data_root') and '://' not in node['data_root']:
            yield node


def get_dataset_class(cfg: Config, dataset: dict) -> Any:
    """Return the registered class of a data set's config, or None if there is none."""
    name, scope = dataset.get('type', ''), cfg.get('default_scope')
    return DATASETS.get(name if '.' in name or not scope else f'{scope}.{name}')
