"""What would spoil a run, said in one message before it starts."""

from .annotated_images import check_image, sample_images
from .annotation_file import AnnotationError, read_annotations
from .annotation_problems import find_problems
from .batch_check import BatchError, check_batch
from .data_check import CocoData, MissingDataError, check_data, find_coco

__all__ = [
    'AnnotationError',
    'BatchError',
    'CocoData',
    'MissingDataError',
    'check_batch',
    'check_data',
    'check_image',
    'find_coco',
    'find_problems',
    'read_annotations',
    'sample_images',
]
