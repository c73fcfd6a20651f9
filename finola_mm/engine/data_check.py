"""Look for a config's data before a run is built, and say in one message what is missing."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.logging import print_log
from mmengine.registry import DATASETS

from .annotation_check import (
    TOLERATED,
    AnnotationError,
    Problem,
    find_problems,
    read_annotations,
    sample_images,
)

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')  # as mmpretrain reads


class MissingDataError(FileNotFoundError):
    """Data that a config names is not there. The message is meant for the user."""


def check_data(cfg, splits=('train', 'val', 'test')) -> None:
    """Look whether the data of ``cfg``'s data loaders is in place, and fit for its model.

    Checks annotation files, image folders, and that a folder holds at least one image; in COCO
    files everything that would end in wrong labels or an AP of 0. Remote storage (a path with
    ``://``) and data sets without ``data_root`` are left to the host. The config's ``data_remedy``
    tells the user what to do.

    Raises:
        MissingDataError: a file or folder is not there.
        AnnotationError: an annotation file does not fit; the message has all that is fatal.
    """
    remedy = cfg.get('data_remedy', '')
    for split in splits:
        loader = cfg.get(f'{split}_dataloader') or {}
        for dataset in _datasets(loader.get('dataset')):
            for path, kind in _paths(dataset):
                _check(path, kind, split, remedy)
        if _is_first_process():
            for data in find_coco(cfg, split):
                _check_coco(cfg, split, data)


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


# -------------------------------------------------------------------------------------- COCO
def _is_first_process() -> bool:
    """Of a parallel run: one reads the files for all, the others wait for it as they start."""
    return int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', 0))) == 0


def _is_coco(dataset: dict, cfg) -> bool:
    """Whether this is mmdet's CocoDataset or a child of it, with a local annotation file."""
    file = dataset.get('ann_file') or ''
    local = '://' not in dataset['data_root'] and '://' not in file
    return local and file.endswith('.json') and hasattr(_dataset_class(dataset, cfg), 'COCOAPI')


def _dataset_class(dataset: dict, cfg) -> Any:
    name, scope = dataset.get('type', ''), cfg.get('default_scope')
    return DATASETS.get(name if '.' in name or not scope else f'{scope}.{name}')


class CocoData(NamedTuple):
    """One annotation file as a config uses it."""

    file: Path
    folder: Path  # of the images
    classes: tuple[str, ...] | str  # the names of the labels; a text is a mistake
    test_mode: bool


def find_coco(cfg, split: str) -> Iterator[CocoData]:
    """The COCO files behind a config's data loader, those of its wrapped data sets too."""
    for data in _datasets((cfg.get(f'{split}_dataloader') or {}).get('dataset')):
        if _is_coco(data, cfg):
            root, prefix = data['data_root'], data.get('data_prefix') or {}
            classes = _dataset_class(data, cfg)._load_metainfo(data.get('metainfo'))['classes']
            yield CocoData(
                Path(root, data['ann_file']),
                Path(root, prefix.get('img', '')),
                classes if isinstance(classes, str) else tuple(classes),
                data.get('test_mode', False),
            )


def _check_coco(cfg, split: str, data: CocoData) -> None:
    evaluator = cfg.get(f'{split}_evaluator') or {}
    if isinstance(evaluator, dict) and evaluator.get('format_only'):
        return  # predictions for a server, which keeps the annotations
    content = read_annotations(data.file)
    # An image that lacks here is replaced by another in training and cannot be in an evaluation.
    tolerated = 0 if data.test_mode else TOLERATED
    problems = [
        *_model_problems(cfg, data.classes),
        *_evaluator_problems(evaluator, data.file),
        *find_problems(content, data.classes),
        *sample_images(content['images'], data.folder, tolerated=tolerated),
    ]
    fatal = [problem.text for problem in problems if problem.fatal]
    if fatal:
        raise AnnotationError(
            '\n  '.join([f'the {split} data cannot be used, {data.file}:', *fatal]))
    for problem in problems:
        print_log(f'{data.file}: {problem.text}', level=logging.WARNING)


def _model_problems(cfg, classes) -> Iterator[Problem]:
    heads = cfg.get('model', {}).get('bbox_head') or {}
    for head in heads if isinstance(heads, list) else [heads]:
        number = head.get('num_classes', len(classes))
        if number != len(classes):
            yield Problem(True, f'the model has num_classes={number} and the data set '
                                f'{len(classes)} classes: set model.bbox_head.num_classes')


def _evaluator_problems(evaluator, file: Path) -> Iterator[Problem]:
    for metric in evaluator if isinstance(evaluator, list) else [evaluator]:
        used = metric.get('ann_file')
        if used and Path(used).resolve() != file.resolve():
            yield Problem(True, f'the evaluator compares with another file, {used}: name the same '
                                'one in both')
