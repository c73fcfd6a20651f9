"""Object detection on mmdet."""

from .coco_metric import CocoMetric
from .data_preprocessor import DetDataPreprocessor
from .mobile_former_detr import MobileFormerDETR
from .mobile_former_detr_head import MobileFormerDETRHead

__all__ = ['CocoMetric', 'DetDataPreprocessor', 'MobileFormerDETR', 'MobileFormerDETRHead']
