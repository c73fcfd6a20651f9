"""Losses of pre-training."""

from .masked_reconstruction import MaskedReconstructionHead

__all__ = ['MaskedReconstructionHead']
