"""Evaluation: image quality, features of an encoder, kNN, a linear probe, and their hooks."""

from .features import check_features, encode_batches, gather_features, global_pool, image_loader
from .folder_visualization_hook import FolderVisualizationHook
from .image_quality import ImageQuality, MaskedPSNR, psnr, ssim
from .knn import knn_accuracy, knn_vote_accuracy, top_accuracy, topk_neighbors
from .knn_hook import KNNHook
from .linear_probe import linear_accuracy
from .reconstruction_hook import ReconstructionHook, draw_reconstructions

__all__ = [
    'FolderVisualizationHook',
    'ImageQuality',
    'KNNHook',
    'MaskedPSNR',
    'ReconstructionHook',
    'check_features',
    'draw_reconstructions',
    'encode_batches',
    'gather_features',
    'global_pool',
    'image_loader',
    'knn_accuracy',
    'knn_vote_accuracy',
    'linear_accuracy',
    'psnr',
    'ssim',
    'top_accuracy',
    'topk_neighbors',
]
