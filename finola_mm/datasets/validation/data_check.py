"""Look for a config's data before a run is built, and say in one message what is missing."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.fileio import list_dir_or_file
from mmengine.logging import print_log
from mmengine.registry import DATASETS

from ..image_files import IMAGE_SUFFIXES
from .annotated_images import sample_images
from .annotation_file import AnnotationError, read_annotations
from .annotation_problems import TOLERATED, Problem, find_problems

NAMED = 3  # classes that a message names


class MissingDataError(FileNotFoundError):
    """Data that a config names is not there. The message is meant for the user."""


def check_data(cfg, splits=('train', 'val', 'test')) -> None:
    """Look whether the data of ``cfg``'s data loaders is in place, and fit for its model.

    Checks annotation files, image folders, and that a folder holds at least one image; class
    folders, which have to be the same ones in all ``splits`` and as many as the model has classes;
    in COCO files everything that would end in wrong labels or an AP of 0. Remote storage (a path
    with ``://``) and data sets without ``data_root`` are left to the host. The config's
    ``missing_data_hint`` tells the user what to do.

    Raises:
        MissingDataError: a file or folder is not there.
        AnnotationError: an annotation file does not fit; the message has all that is fatal.
        ValueError: class folders are lacking, differ, or are not of the model's number, or fewer
            than top-k accuracy wants.
    """
    remedy = cfg.get('missing_data_hint', '')
    for split in splits:
        loader = cfg.get(f'{split}_dataloader') or {}
        for dataset in _datasets(loader.get('dataset')):
            for path, kind in _paths(dataset):
                _check(path, kind, split, remedy)
        if _is_first_process():
            for data in find_coco(cfg, split):
                _check_coco(cfg, split, data)
    roots = [root for split in splits for root in _class_roots(cfg, split)]
    _check_classes(roots)
    if roots:
        _check_number(cfg, splits, roots[0])


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


def _dataset_class(dataset: dict, cfg) -> Any:
    name, scope = dataset.get('type', ''), cfg.get('default_scope')
    return DATASETS.get(name if '.' in name or not scope else f'{scope}.{name}')


# ------------------------------------------------------------------------------ class folders
def _class_roots(cfg, split: str) -> Iterator[Path]:
    """Where the data sets of a split have their class folders, if they label by folders.

    Those are mmpretrain's CustomDataset and its children without a list; by ``split`` ImageNet
    may find a list of its own.
    """
    for data in _datasets((cfg.get(f'{split}_dataloader') or {}).get('dataset')):
        listed = data.get('ann_file') or data.get('split') or '://' in data['data_root']
        if listed or data.get('with_label') is False:
            continue
        if hasattr(_dataset_class(data, cfg), '_find_samples'):
            prefix = data.get('data_prefix', '')
            prefix = prefix.get('img_path', '') if isinstance(prefix, dict) else prefix
            yield Path(data['data_root'], prefix)


def _check_classes(roots: list[Path]) -> None:
    """A label is the place of its folder among the sorted ones: one more shifts all behind it."""
    folders = [set(list_dir_or_file(str(root), list_file=False)) for root in roots]
    for root, names in zip(roots, folders, strict=True):
        if not names:
            raise ValueError(
                f'{root} has no class folders: the labels are read from them, so every class wants '
                'a folder of its own'
            )
        if names != folders[0]:
            raise ValueError(
                f'the class folders differ; only in {roots[0]}: {_names(folders[0] - names)}; only '
                f'in {root}: {_names(names - folders[0])}. Their order gives the labels: every '
                'split wants the same ones, an empty folder for a class without images'
            )


def _names(names: set[str]) -> str:
    more = f' and {len(names) - NAMED} more' if len(names) > NAMED else ''
    return ', '.join(sorted(names)[:NAMED]) + more or 'none'


def _check_number(cfg, splits, root: Path) -> None:
    """Compare the class folders with the model's classes, and with the k of top-k accuracy."""
    number = len(list(list_dir_or_file(str(root), list_file=False)))
    model, settings, wrong = cfg.get('model', {}), [], []
    for part in ('head', 'data_preprocessor'):
        expected = (model.get(part) or {}).get('num_classes')
        settings.append(f'model.{part}.num_classes={number}')
        if expected not in (None, number):
            wrong.append(f'the model num_classes={expected} in its {part}')
    for split in ('val', 'test'):
        topk = _topk(cfg.get(f'{split}_evaluator'))
        if max(topk) > number:
            settings.append(f'{split}_evaluator.topk=1')
            if split in splits:
                wrong.append(f'{split}_evaluator topk={topk}')
    if wrong:
        raise ValueError(
            f'{root} has {number} class folders and {", ".join(wrong)}: '
            f'--cfg-options {" ".join(settings)}'
        )


def _topk(evaluator: Any) -> tuple[int, ...]:
    """Of one metric; of several, or of none, the least that there is."""
    topk = evaluator.get('topk') or 1 if isinstance(evaluator, dict) else 1
    return (topk,) if isinstance(topk, int) else tuple(topk)


# -------------------------------------------------------------------------------------- COCO
def _is_first_process() -> bool:
    """Of a parallel run: one reads the files for all, the others wait for it as they start."""
    return int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', 0))) == 0


def _is_coco(dataset: dict, cfg) -> bool:
    """Whether mmdet's CocoDataset reads a local annotation file here, or a child that reads alike.

    Those of LVIS and Objects365 order their classes otherwise, panoptic files are of another form.
    """
    file = dataset.get('ann_file') or ''
    if '://' in dataset['data_root'] or '://' in file or not file.endswith('.json'):
        return False
    found = _dataset_class(dataset, cfg)
    for parent in getattr(found, '__mro__', ()):
        if parent.__module__ == 'mmdet.datasets.coco':  # not imported here: mmdet may be missing
            return (found.load_data_list, found.COCOAPI) == (parent.load_data_list, parent.COCOAPI)
    return False


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
    metrics = evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]
    if metrics and all(metric.get('format_only') for metric in metrics):
        return  # predictions for a server, which keeps the annotations
    content = read_annotations(data.file)
    # An image that lacks here is replaced by another in training and cannot be in an evaluation.
    tolerated = 0 if data.test_mode else TOLERATED
    problems = [
        *_model_problems(cfg, data.classes),
        *_evaluator_problems(metrics, data.file),
        *find_problems(content, data.classes),
        *sample_images(content['images'], data.folder, tolerated=tolerated),
    ]
    fatal = [problem.text for problem in problems if problem.fatal]
    if fatal:
        raise AnnotationError(
            '\n  '.join([f'the {split} data cannot be used, {data.file}:', *fatal])
        )
    for problem in problems:
        print_log(f'{data.file}: {problem.text}', level=logging.WARNING)


def _model_problems(cfg, classes) -> Iterator[Problem]:
    heads = cfg.get('model', {}).get('bbox_head') or {}
    for head in heads if isinstance(heads, list) else [heads]:
        number = head.get('num_classes', len(classes))
        if number != len(classes):
            yield Problem(
                True,
                f'the model has num_classes={number} and the data set '
                f'{len(classes)} classes: set model.bbox_head.num_classes',
            )


def _evaluator_problems(metrics, file: Path) -> Iterator[Problem]:
    for metric in metrics:
        used = metric.get('ann_file')
        if used and Path(used).resolve() != file.resolve():
            yield Problem(
                True, f'the evaluator compares with another file, {used}: name the same one in both'
            )
