"""Object detection on mmdet."""

from .mobile_former_detr import MobileFormerDETR
from .mobile_former_detr_head import MobileFormerDETRHead

__all__ = ['MobileFormerDETR', 'MobileFormerDETRHead']
