"""Self-supervised algorithms on mmpretrain."""

from .data_preprocessor import SelfSupDataPreprocessor
from .finola import FINOLA
from .masked_finola import MaskedFINOLA

__all__ = ['FINOLA', 'MaskedFINOLA', 'SelfSupDataPreprocessor']
