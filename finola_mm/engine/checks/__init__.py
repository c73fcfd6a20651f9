"""What would spoil a run, said in one message before it starts."""

from .annotation_check import AnnotationError, check_image, find_problems, read_annotations
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
]
