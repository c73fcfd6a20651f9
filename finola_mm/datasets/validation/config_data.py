"""Check a config's data before its run is built."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_distributed, is_main_process
from mmengine.fileio import list_dir_or_file

from ...errors import UserError, list_names
from ..image_files import IMAGE_SUFFIXES, list_classes, list_images, scan
from .annotations import short
from .coco_data import check_coco, find_coco
from .config_datasets import find_datasets, get_dataset_class

# Variables of the launchers that hold the rank, before the process group is created.
RANKS = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')


def check_data(cfg: Config, splits=('train', 'val', 'test')) -> None:
    """Check that the data of a config's loaders exists and matches its model.

    Checks lists, image folders, class folders and COCO files. Remote storage (paths with ``://``)
    and data sets without ``data_root`` are not checked.

    Raises:
        UserError: data does not match the model, or is missing. The message about missing data
            includes the config's ``missing_data_hint``.
    """
    hint = cfg.get('missing_data_hint', 'Correct data_root, data_prefix or ann_file in the config.')
    for split in splits:
        for dataset in find_datasets(cfg, split):
            _check_paths(dataset, split, hint)
            if dataset.get('ann_file'):
                _check_list(cfg, dataset, split)
        # One rank reads annotation files for all; the others wait when the run starts.
        ranks = [os.environ[name] for name in RANKS if name in os.environ]
        if is_main_process() if is_distributed() else ranks[:1] in ([], ['0']):
            for data in find_coco(cfg, split):
                check_coco(split, data)
    _check_class_folders(cfg, splits)


def _check_paths(dataset: dict, split: str, hint: str) -> None:
    root, prefixes = dataset['data_root'], dataset.get('data_prefix', '')
    prefixes = list(prefixes.values()) if isinstance(prefixes, dict) else [prefixes]
    ann_file = dataset.get('ann_file') and Path(root, dataset['ann_file'])
    if ann_file and not ann_file.is_file():
        raise UserError(
            f'the list or annotation file {ann_file} of the {split} data does not exist. {hint}'
        )
    for folder in (Path(root, prefix) for prefix in prefixes):
        if not folder.is_dir():
            raise UserError(f'the {split} data folder {folder} does not exist. {hint}')
        # The images of a list may be anywhere below the folder.
        suffixes = tuple(dataset.get('extensions', IMAGE_SUFFIXES))
        files = (path for path, kind in scan(folder) if kind == 'file')
        if not (ann_file or any(path.lower().endswith(suffixes) for path in files)):
            try:
                list_images(folder, suffixes)
            except UserError as error:
                raise UserError(f'{split} data: {error} {hint}') from error
    if ann_file and dataset.get('with_label') is False:
        # The first line shows whether the list has labels or is relative to another folder.
        with open(ann_file, encoding='utf-8', errors='surrogateescape') as lines:
            first = Path(root, prefixes[0], next(lines, '').rstrip('\n'))
        if not first.is_file():
            raise UserError(
                f'the list {ann_file} of the {split} data begins with {str(first)!r}, which is not '
                'a file. Write one path per line, relative to the folder of the split, without '
                'labels.'
            )


def _check_list(cfg: Config, dataset: dict, split: str) -> None:
    """Check the form of every line of a list, if mmpretrain's CustomDataset reads it."""
    reader = getattr(get_dataset_class(cfg, dataset), 'load_data_list', None)
    if getattr(reader, '__module__', None) != 'mmpretrain.datasets.custom':
        return
    valid: Callable
    if dataset.get('with_label') is False or dataset.get('split') == 'test':  # of ImageNet
        valid, expected = str.strip, 'one path, without a label'
    else:
        number = (cfg.get('model', {}).get('head') or {}).get('num_classes')
        valid = partial(_has_label, number=number or math.inf)
        last = f' to {number - 1} (model.head.num_classes={number})' if number else ''
        expected = f'a path and a class number from 0{last}, separated by one space'
    file = Path(dataset['data_root'], dataset['ann_file'])
    text = file.read_text(encoding='utf-8', errors='surrogateescape')
    for i, line in enumerate(text.removesuffix('\n').split('\n'), 1):
        if not valid(line):
            raise UserError(
                f'line {i} of the list {file} of the {split} data is {short(line)}; expected '
                f'{expected}. Correct the list.'
            )


def _has_label(line: str, number: float) -> bool:
    path, _, label = line.strip().rpartition(' ')
    try:
        return path != '' and path == path.rstrip(', \t') and 0 <= int(label) < number
    except ValueError:
        return False


def _check_class_folders(cfg: Config, splits: Sequence[str]) -> None:
    """Check that all splits have the same class folders, as many as the model has classes."""
    folders = {
        root: set(list_classes(root)) for split in splits for root in _class_roots(cfg, split)
    }
    if not folders:
        return
    first, names = next(iter(folders.items()))
    for root, others in folders.items():
        if not others:
            raise UserError(
                f'{root} contains no class folders, which define the labels. Create a folder for '
                'each class.'
            )
        if others != names:
            # The label of a class is the position of its folder in the sorted list.
            raise UserError(
                f'{first} and {root} must contain the same class folders; only in {first}: '
                f'{list_names(sorted(names - others)) or "none"}; only in {root}: '
                f'{list_names(sorted(others - names)) or "none"}. Create an empty folder for a '
                'missing class.'
            )
    _check_number(cfg, splits, first, len(names))


def _class_roots(cfg: Config, split: str) -> Iterator[Path]:
    """Yield the folders whose subfolders are the classes of a split.

    These are folders of mmpretrain's CustomDataset and its subclasses, unless they have a list.
    With ``split``, ImageNet may find its own list.
    """
    for data in find_datasets(cfg, split):
        if data.get('ann_file') or data.get('split') or data.get('with_label') is False:
            continue
        kind = get_dataset_class(cfg, data)
        if hasattr(kind, '_find_samples'):  # requires mmpretrain, as ImageFolder does
            from ..image_folder import ImageFolder

            prefix = data.get('data_prefix', '')
            prefix = prefix.get('img_path', '') if isinstance(prefix, dict) else prefix
            root = Path(data['data_root'], prefix)
            others = {*list_dir_or_file(root, list_file=False)} - {*list_classes(root)}
            if others and not issubclass(kind, ImageFolder):
                raise UserError(
                    f'{root} contains {list_names(sorted(others))}, which {data["type"]} takes as '
                    "a class folder. Set type='finola_mm.ImageFolder', or delete it."
                )
            yield root


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
    """Return the k of a single metric; (1,) for several metrics or none."""
    topk = evaluator.get('topk') or 1 if isinstance(evaluator, dict) else 1
    return (topk,) if isinstance(topk, int) else tuple(topk)
