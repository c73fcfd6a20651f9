"""Classification heads on mmpretrain's ``ClsHead``, for its ``ImageClassifier``."""

from .linear_probe import LinearProbeHead
from .transformer import TransformerHead

__all__ = ['LinearProbeHead', 'TransformerHead']
