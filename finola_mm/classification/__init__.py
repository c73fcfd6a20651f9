"""Classification heads on mmpretrain's ``ClsHead``, for its ``ImageClassifier``."""

from ..datasets.image_folder import ImageFolder
from .data_preprocessor import ClsDataPreprocessor
from .linear_probe import LinearProbeHead
from .mixup import Mixup
from .mobile_former_head import MobileFormerHead
from .transformer import TransformerHead

__all__ = [
    'ClsDataPreprocessor',
    'ImageFolder',
    'LinearProbeHead',
    'Mixup',
    'MobileFormerHead',
    'TransformerHead',
]
