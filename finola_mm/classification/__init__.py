"""Classification heads on mmpretrain's ``ClsHead``, for its ``ImageClassifier``."""

from ..datasets.image_folder import ImageFolder
from .linear_probe import LinearProbeHead
from .transformer import TransformerHead

__all__ = ['ImageFolder', 'LinearProbeHead', 'TransformerHead']
