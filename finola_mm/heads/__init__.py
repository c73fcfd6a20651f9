"""Pre-training losses."""

from .masked_reconstruction import MaskedReconstructionHead
from .reconstruction import ReconstructionHead

__all__ = ['MaskedReconstructionHead', 'ReconstructionHead']
