"""Metrics."""

from .features import encode_batches, evenly_spaced, gather_features, image_loader
from .image_quality import ImageQuality
from .knn import check_features, knn_accuracy, knn_vote_accuracy, topk_neighbors
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
    'gather_features',
    'draw_reconstructions',
    'encode_batches',
    'image_loader',
    'knn_accuracy',
    'linear_accuracy',
    'topk_neighbors',
    'psnr',
    'evenly_spaced',
    'ssim',
    'top_accuracy',
    'knn_vote_accuracy',
]
