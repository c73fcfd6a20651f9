"""Metrics."""

from .features import collect, encode, image_loader, spread
from .image_quality import ImageQuality
from .knn import check_features, knn_accuracy, nearest, vote_accuracy
from .knn_hook import KNNHook
from .linear_probe import linear_accuracy
from .masked_psnr import MaskedPSNR
from .psnr import psnr
from .reconstruction_hook import ReconstructionHook, draw_reconstructions
from .ssim import ssim
from .top_accuracy import top_accuracy

__all__ = [
    'ImageQuality',
    'KNNHook',
    'MaskedPSNR',
    'ReconstructionHook',
    'check_features',
    'collect',
    'draw_reconstructions',
    'encode',
    'image_loader',
    'knn_accuracy',
    'linear_accuracy',
    'nearest',
    'psnr',
    'spread',
    'ssim',
    'top_accuracy',
    'vote_accuracy',
]
