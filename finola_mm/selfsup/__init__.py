"""Self-supervised algorithms on mmpretrain."""

from ..datasets.image_folder import ImageFolder
from .data_preprocessor import SelfSupDataPreprocessor
from .finola import FINOLA
from .masked_finola import MaskedFINOLA

__all__ = ['FINOLA', 'ImageFolder', 'MaskedFINOLA', 'SelfSupDataPreprocessor']
