"""Look for a config's data before a run is built, and say in one message what is missing."""

import os
from collections.abc import Iterator
from pathlib import Path

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')  # as mmpretrain reads


class MissingDataError(FileNotFoundError):
    """Data that a config names is not there. The message is meant for the user."""


def check_data(cfg, splits=('train', 'val', 'test')) -> None:
    """Raise :class:`MissingDataError` unless the data of ``cfg``'s data loaders is in place.

    Checks annotation files, image folders, and that a folder holds at least one image. Remote
    storage (a path with ``://``) and data sets without ``data_root`` are left to the host. The
    config's ``data_remedy`` tells the user what to do.
    """
    remedy = cfg.get('data_remedy', '')
    for split in splits:
        loader = cfg.get(f'{split}_dataloader') or {}
        for dataset in _datasets(loader.get('dataset')):
            for path, kind in _paths(dataset):
                _check(path, kind, split, remedy)


def _datasets(node) -> Iterator[dict]:
    """The innermost data sets of a (possibly wrapped) data set config."""
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from _datasets(item)
    elif isinstance(node, dict):
        wrapped = node.get('dataset') or node.get('datasets')
        if wrapped:
            yield from _datasets(wrapped)
        elif node.get('data_root'):
            yield node


def _paths(dataset: dict) -> Iterator[tuple[Path, str]]:
    root = dataset['data_root']
    if '://' in root:
        return
    ann_file = dataset.get('ann_file')
    if ann_file:
        yield Path(root, ann_file), 'file'
    prefixes = dataset.get('data_prefix', '')
    for prefix in prefixes.values() if isinstance(prefixes, dict) else [prefixes]:
        # A list file may name its images anywhere below the folder: only the folder is looked at.
        yield Path(root, prefix), 'folder' if ann_file else 'images'
    if ann_file and dataset.get('with_label') is False:  # a list of images
        yield _first_listed(Path(root, ann_file), Path(root, prefixes)), 'listed'


def _first_listed(file: Path, folder: Path) -> Path:
    """The first image that a list names: a list of another form shows in its first line."""
    with open(file) as lines:
        return Path(folder, next(lines, '').rstrip('\n'))


def _check(path: Path, kind: str, split: str, remedy: str) -> None:
    if kind == 'file' and not path.is_file():
        raise MissingDataError(f'the {split} data has no list or annotation file {path}. {remedy}')
    if kind == 'listed' and not path.is_file():
        raise MissingDataError(
            f'the list of the {split} data begins with {str(path)!r}, which is no file. A list has '
            'one path a line, relative to the folder of the split, without labels.'
        )
    if kind in ('folder', 'images') and not path.is_dir():
        raise MissingDataError(f'the {split} data has no folder {path}. {remedy}')
    if kind == 'images' and not _has_image(path):
        raise MissingDataError(
            f'the {split} data folder {path} holds no image ({", ".join(IMAGE_SUFFIXES)}). {remedy}'
        )


def _has_image(folder: Path) -> bool:
    return any(
        name.lower().endswith(IMAGE_SUFFIXES)
        for _, _, names in os.walk(folder, followlinks=True)
        for name in names
    )
