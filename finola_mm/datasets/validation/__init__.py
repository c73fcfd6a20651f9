"""Check a run's folders, COCO files and batch size before it starts."""

from .annotations import find_problems, read_annotations
from .batch_check import check_batch
from .coco_data import CocoData, check_image, find_coco, sample_images
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
