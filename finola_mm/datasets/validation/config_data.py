"""Check a config's data before a run is built."""

import os
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_distributed, is_main_process

from ...errors import UserError
from ..image_files import IMAGE_SUFFIXES
from .class_folders import check_class_folders
from .coco_data import check_coco, find_coco
from .config_datasets import find_datasets


def check_data(cfg: Config, splits=('train', 'val', 'test')) -> None:
    """Check that the data of a config's loaders exists and fits its model.

    Checks annotation files and lists, image folders, class folders, and COCO files for mistakes
    that end in wrong labels or an AP of 0. Remote storage (a path with ``://``) and data sets
    without ``data_root`` are not checked. The config's ``missing_data_hint`` tells the user what
    to do about missing data.

    Raises:
        UserError: data is missing, or does not fit; the message names all fatal problems of a file.
    """
    hint = cfg.get('missing_data_hint', 'Correct data_root, data_prefix or ann_file in the config.')
    for split in splits:
        for dataset in find_datasets(cfg, split):
            _check_paths(dataset, split, hint)
        if _is_main_process():
            for data in find_coco(cfg, split):
                check_coco(cfg, split, data)
    check_class_folders(cfg, splits)


def _check_paths(dataset: dict, split: str, hint: str) -> None:
    root, prefixes = dataset['data_root'], dataset.get('data_prefix', '')
    prefixes = list(prefixes.values()) if isinstance(prefixes, dict) else [prefixes]
    ann_file = dataset.get('ann_file') and Path(root, dataset['ann_file'])
    if ann_file and not ann_file.is_file():
        raise UserError(
            f'the list or annotation file of the {split} data is {ann_file}, which does '
            f'not exist. {hint}'
        )
    for folder in (Path(root, prefix) for prefix in prefixes):
        if not folder.is_dir():
            raise UserError(f'the {split} data folder {folder} does not exist. {hint}')
        # A list may name its images anywhere below the folder.
        if not ann_file and not _has_image(folder):
            raise UserError(
                f'the {split} data folder {folder} contains no image '
                f'({", ".join(IMAGE_SUFFIXES)}). {hint}'
            )
    if ann_file and dataset.get('with_label') is False:
        _check_first_path(ann_file, Path(root, prefixes[0]), split)


def _check_first_path(file: Path, folder: Path, split: str) -> None:
    """A list with labels, or relative to another folder, is recognised by its first line."""
    with open(file) as lines:
        first = Path(folder, next(lines, '').rstrip('\n'))
    if not first.is_file():
        raise UserError(
            f'the list {file} of the {split} data begins with {str(first)!r}, which is not a file. '
            'Write one path per line, relative to the folder of the split, without labels.'
        )


def _has_image(folder: Path) -> bool:
    return any(
        name.lower().endswith(IMAGE_SUFFIXES)
        for _, _, names in os.walk(folder, followlinks=True)
        for name in names
    )


def _is_main_process() -> bool:
    """Whether this rank reads annotation files for all; the others wait when the run starts."""
    if is_distributed():
        return is_main_process()
    return int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', 0))) == 0
