"""Find the COCO annotation files of a config; check them and a sample of their images."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import TRANSFORMS

from ...errors import UserError
from ..decoding import LoadImageFromFile, read_size
from ..image_files import evenly_spaced
from .annotations import TOLERATED, Problem, find_problems, read_annotations
from .config_datasets import find_datasets, get_dataset_class

DEFAULT_LOADER = LoadImageFromFile()


class CocoData(NamedTuple):
    """An annotation file and its use in a config."""

    file: Path
    folder: Path  # of the images
    classes: tuple[str, ...] | str  # names of the labels; a string is a mistake
    test_mode: bool = False
    labelled: bool = True  # False: predictions for a server, which holds the annotations
    min_size: float = 0  # of filter_cfg: images with a smaller side are not used
    problems: tuple[Problem, ...] = ()  # of the config with this file
    load: BaseTransform = DEFAULT_LOADER  # reads the images


def find_coco(cfg: Config, split: str) -> Iterator[CocoData]:
    """Yield the local COCO files of a split, including those of wrapped data sets."""
    evaluator = cfg.get(f'{split}_evaluator') or {}
    metrics = evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]
    for data in find_datasets(cfg, split):
        dataset_class = get_dataset_class(cfg, data)
        name = data.get('ann_file') or ''
        if name and '://' not in name and _reads_as_coco(dataset_class):
            file, prefix = Path(data['data_root'], name), data.get('data_prefix') or {}
            classes = dataset_class._load_metainfo(data.get('metainfo'))['classes']
            test_mode = data.get('test_mode', False)  # which ignores filter_cfg
            yield CocoData(
                file,
                Path(data['data_root'], prefix.get('img', '')),
                classes if isinstance(classes, str) else tuple(classes),
                test_mode,
                not all(metric.get('format_only') for metric in metrics),
                0 if test_mode else (data.get('filter_cfg') or {}).get('min_size', 0),
                tuple(_config_problems(cfg, metrics, file, len(classes))),
                _build_loader(data),
            )


def _build_loader(data: dict) -> BaseTransform:
    """Build the transform of a data set's pipeline that loads its images."""
    for transform in data.get('pipeline') or ():
        kind = transform['type']  # a name or a class
        if getattr(kind, '__name__', kind).endswith('LoadImageFromFile'):
            return TRANSFORMS.build(transform)
    return DEFAULT_LOADER


def _reads_as_coco(dataset_class: Any) -> bool:
    """Return whether a class is mmdet's CocoDataset or a subclass that reads files the same way.

    LVIS and Objects365 order their classes differently; panoptic files have another structure.
    """
    readers = ('load_data_list', 'COCOAPI')
    for parent in getattr(dataset_class, '__mro__', ()):
        if parent.__module__ == 'mmdet.datasets.coco':  # by name: mmdet may not be installed
            return all(getattr(dataset_class, name) == getattr(parent, name) for name in readers)
    return False


def check_coco(split: str, data: CocoData) -> None:
    """Check an annotation file and a sample of its images; log minor problems, raise fatal ones."""
    content = read_annotations(data.file)
    # In training, an unreadable image is replaced by another one; in evaluation, it is fatal.
    tolerated = 0 if data.test_mode else TOLERATED
    problems = [
        *data.problems,
        *find_problems(content, data.classes, labelled=data.labelled, min_size=data.min_size),
        *sample_images(content['images'], data.folder, tolerated=tolerated, load=data.load),
    ]
    fatal = [problem.text for problem in problems if problem.fatal]
    if fatal:
        raise UserError('\n  '.join([f'the {split} data {data.file} cannot be used:', *fatal]))
    for problem in problems:
        print_log(f'{data.file}: {problem.text}', level=logging.WARNING)


def _config_problems(
    cfg: Config, metrics: Sequence[dict], file: Path, expected: int
) -> Iterator[Problem]:
    heads = cfg.get('model', {}).get('bbox_head') or {}
    for head in heads if isinstance(heads, list) else [heads]:
        number = head.get('num_classes', expected)
        if number != expected:
            yield Problem(
                True,
                f'the model has num_classes={number}, but the data set has {expected} classes. Set '
                f'model.bbox_head.num_classes={expected}',
            )
    for metric in metrics:
        used = metric.get('ann_file')
        if used and Path(used).resolve() != file.resolve():
            yield Problem(True, f'the evaluator uses a different file, {used}. Set the same one')


def check_image(record: dict, folder: Path, load: BaseTransform = DEFAULT_LOADER) -> str | None:
    """Compare an image file, as ``load`` reads it, with its record; return the mismatch, or None.

    For our ``LoadImageFromFile``, the default, the header of most files is sufficient.
    """
    path = Path(folder, record['file_name'])
    if not path.is_file():
        return f'{path} is missing'
    try:
        if isinstance(load, LoadImageFromFile):
            height, width = read_size(load.read(str(path)), str(path))
        else:
            height, width = load(dict(img_path=str(path)))['ori_shape']
    except Exception as error:  # other loaders raise different types
        return f'{path} cannot be read as an image ({error})'
    recorded = (record['width'], record['height'])
    if (width, height) == recorded:
        return None
    turned = ' (swapped, as by an EXIF or XMP rotation)' if (height, width) == recorded else ''
    return f'{path} is {width} x {height}; its record has {recorded[0]} x {recorded[1]}{turned}'


def sample_images(
    images: list[dict],
    folder: Path,
    *,
    number: int = 100,
    tolerated: float = TOLERATED,
    load: BaseTransform = DEFAULT_LOADER,
) -> Iterator[Problem]:
    """Check ``number`` evenly spaced image files; yield a problem if any does not match."""
    chosen = [images[i] for i in evenly_spaced(len(images), number)]
    wrong = [text for record in chosen if (text := check_image(record, folder, load))]
    if wrong:
        yield Problem(
            len(wrong) / len(chosen) > tolerated,
            f'{len(wrong)} of {len(chosen)} images checked do not match their annotation records: '
            f'{"; ".join(wrong[:2])}. Put the images there, set data_prefix to their folder, or '
            'remove the records; tools/check/coco.py checks every image',
        )
