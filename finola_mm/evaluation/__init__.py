"""Metrics."""

from .image_quality import ImageQuality
from .masked_psnr import MaskedPSNR
from .psnr import psnr
from .ssim import ssim

__all__ = ['ImageQuality', 'MaskedPSNR', 'psnr', 'ssim']
