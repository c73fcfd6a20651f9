"""Checks of a run's folders, COCO files and batch size before it starts."""

from .annotated_images import check_image, sample_images
from .annotation_file import read_annotations
from .annotation_problems import find_problems
from .batch_check import check_batch
from .coco_data import CocoData, find_coco
from .config_data import check_data

__all__ = [
    'CocoData',
    'check_batch',
    'check_data',
    'check_image',
    'find_coco',
    'find_problems',
    'read_annotations',
    'sample_images',
]
