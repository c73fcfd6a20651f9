"""Metrics."""

from .masked_psnr import MaskedPSNR, psnr

__all__ = ['MaskedPSNR', 'psnr']
