"""Check the class folders that give the labels of mmpretrain's data sets."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.fileio import list_dir_or_file

from ...errors import UserError, list_names
from .config_datasets import find_datasets, get_dataset_class


def check_class_folders(cfg: Config, splits: Sequence[str]) -> None:
    """Check that all splits have the same class folders, as many as the model has classes.

    Raises:
        UserError: class folders are missing or different, their number is not the model's, or is
            below the k of top-k accuracy.
    """
    folders = {root: _list_folders(root) for split in splits for root in _class_roots(cfg, split)}
    if not folders:
        return
    first, names = next(iter(folders.items()))
    for root, others in folders.items():
        if not others:
            raise UserError(
                f'{root} contains no class folders, which give the labels. Create a folder for '
                'each class.'
            )
        if others != names:
            # A label is the position of its folder in the sorted list.
            raise UserError(
                f'{first} and {root} must contain the same class folders; only in {first}: '
                f'{list_names(sorted(names - others)) or "none"}; only in {root}: '
                f'{list_names(sorted(others - names)) or "none"}. Create an empty folder for a '
                'missing class.'
            )
    _check_number(cfg, splits, first, len(names))


def _list_folders(root: Path) -> set[str]:
    return set(list_dir_or_file(str(root), list_file=False))


def _class_roots(cfg: Config, split: str) -> Iterator[Path]:
    """The folders whose subfolders are the classes of a split.

    They belong to mmpretrain's CustomDataset and its children without a list; with ``split``
    ImageNet may find its own list.
    """
    for data in find_datasets(cfg, split):
        if data.get('ann_file') or data.get('split') or data.get('with_label') is False:
            continue
        if hasattr(get_dataset_class(cfg, data), '_find_samples'):
            prefix = data.get('data_prefix', '')
            prefix = prefix.get('img_path', '') if isinstance(prefix, dict) else prefix
            yield Path(data['data_root'], prefix)


def _check_number(cfg: Config, splits: Sequence[str], root: Path, number: int) -> None:
    """Compare the number of class folders with the model and with the k of top-k accuracy."""
    model, settings, wrong = cfg.get('model', {}), [], []
    for part in ('head', 'data_preprocessor'):
        expected = (model.get(part) or {}).get('num_classes')
        settings.append(f'model.{part}.num_classes={number}')
        if expected not in (None, number):
            wrong.append(f'model.{part}.num_classes={expected}')
    for split in ('val', 'test'):
        topk = _topk(cfg.get(f'{split}_evaluator'))
        if max(topk) > number:
            settings.append(f'{split}_evaluator.topk=1')
            if split in splits:
                wrong.append(f'{split}_evaluator topk={topk}')
    if wrong:
        raise UserError(
            f'{root} contains {number} class folders, but the config has {", ".join(wrong)}. Set '
            f'--cfg-options {" ".join(settings)}'
        )


def _topk(evaluator: Any) -> tuple[int, ...]:
    """The k of a single metric; (1,) for several metrics or none."""
    topk = evaluator.get('topk') or 1 if isinstance(evaluator, dict) else 1
    return (topk,) if isinstance(topk, int) else tuple(topk)
