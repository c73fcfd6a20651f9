"""Find and check the COCO annotation files of a config."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.logging import print_log

from ...errors import UserError
from .annotated_images import sample_images
from .annotation_file import read_annotations
from .annotation_problems import TOLERATED, Problem, find_problems
from .config_datasets import find_datasets, get_dataset_class


class CocoData(NamedTuple):
    """An annotation file as a config uses it."""

    file: Path
    folder: Path  # of the images
    classes: tuple[str, ...] | str  # names of the labels; text instead of a tuple is a mistake
    test_mode: bool


def find_coco(cfg: Config, split: str) -> Iterator[CocoData]:
    """Yield the local COCO files of a split, including those of wrapped data sets."""
    for data in find_datasets(cfg, split):
        dataset_class = get_dataset_class(cfg, data)
        file = data.get('ann_file') or ''
        if file.endswith('.json') and '://' not in file and _reads_as_coco(dataset_class):
            root, prefix = data['data_root'], data.get('data_prefix') or {}
            classes = dataset_class._load_metainfo(data.get('metainfo'))['classes']
            yield CocoData(
                Path(root, file),
                Path(root, prefix.get('img', '')),
                classes if isinstance(classes, str) else tuple(classes),
                data.get('test_mode', False),
            )


def _reads_as_coco(dataset_class: Any) -> bool:
    """Whether a class is mmdet's CocoDataset, or a subclass that reads files the same way.

    LVIS and Objects365 order their classes differently; panoptic files have another structure.
    """
    for parent in getattr(dataset_class, '__mro__', ()):
        if parent.__module__ == 'mmdet.datasets.coco':  # by name: mmdet may not be installed
            return all(
                getattr(dataset_class, name) == getattr(parent, name)
                for name in ('load_data_list', 'COCOAPI')
            )
    return False


def check_coco(cfg: Config, split: str, data: CocoData) -> None:
    """Check an annotation file and a sample of its images against the config; log minor problems.

    Raises:
        UserError: with all fatal problems.
    """
    evaluator = cfg.get(f'{split}_evaluator') or {}
    metrics = evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]
    if metrics and all(metric.get('format_only') for metric in metrics):
        return  # predictions for a server, which keeps the annotations
    content = read_annotations(data.file)
    # In training an unreadable image is replaced by another one, in evaluation it is fatal.
    tolerated = 0 if data.test_mode else TOLERATED
    problems = [
        *_model_problems(cfg, data.classes),
        *_evaluator_problems(metrics, data.file),
        *find_problems(content, data.classes),
        *sample_images(content['images'], data.folder, tolerated=tolerated),
    ]
    fatal = [problem.text for problem in problems if problem.fatal]
    if fatal:
        raise UserError('\n  '.join([f'the {split} data {data.file} cannot be used:', *fatal]))
    for problem in problems:
        print_log(f'{data.file}: {problem.text}', level=logging.WARNING)


def _model_problems(cfg: Config, classes: Sequence[str]) -> Iterator[Problem]:
    heads = cfg.get('model', {}).get('bbox_head') or {}
    for head in heads if isinstance(heads, list) else [heads]:
        number = head.get('num_classes', len(classes))
        if number != len(classes):
            yield Problem(
                True,
                f'the model has num_classes={number}, the data set {len(classes)} classes. Set '
                f'model.bbox_head.num_classes={len(classes)}',
            )


def _evaluator_problems(metrics: Sequence[dict], file: Path) -> Iterator[Problem]:
    for metric in metrics:
        used = metric.get('ann_file')
        if used and Path(used).resolve() != file.resolve():
            yield Problem(True, f'the evaluator uses another file, {used}. Set both to one file')
