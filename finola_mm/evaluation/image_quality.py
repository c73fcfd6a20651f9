"""PSNR, SSIM and LPIPS of one image, and metrics for reconstructed images.

SSIM: Wang et al., "Image quality assessment: from error visibility to structural similarity"
(2004), computed with scikit-image: Gaussian window with sigma 1.5, 11 x 11 pixels, population
variances, K1 = 0.01, K2 = 0.03. The paper compares grey images; here SSIM is averaged over colours.

LPIPS: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric"
(2018), computed with the authors' package ``lpips``, version 0.1 with AlexNet. The package contains
the weights of the distance; torchvision downloads those of AlexNet. This module downloads nothing.
"""

import importlib
import importlib.util
import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor, nn

from ..errors import UserError
from ..registry import METRICS

WINDOW = 11  # side of SSIM's window, pixels
ALEXNET = 'alexnet-owt-7be5be79.pth'  # torchvision's file name, as in AlexNet_Weights
INSTALL = 'python -m pip install lpips'
DOWNLOAD = 'python -c "import lpips; lpips.LPIPS(net=\'alex\')"'


def psnr(pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return 10 log10(1 / MSE) in dB, a float64 scalar, over all pixels or those of ``mask``.

    It is at most 100 dB, so that a perfect prediction of one uniform image keeps the mean finite.
    The papers' tables report the mean over images, computed on denormalized pixels.

    pred, target (3, H, W), clamped to [0, 1]; mask (1, H, W) bool, True = counts.
    """
    error = (pred.double().clamp(0, 1) - target.double().clamp(0, 1)) ** 2
    if mask is not None:
        error = error[mask.expand_as(error)]
    return -10 * torch.log10(error.mean().clamp(min=1e-10))


def ssim(pred: Tensor, target: Tensor) -> float:
    """Return the SSIM, at most 1; pred, target (3, H, W), clamped to [0, 1], H and W >= 11.

    Raises:
        UserError: the images are smaller than the window.
    """
    from skimage.metrics import structural_similarity  # slow to import

    if min(target.shape[1:]) < WINDOW:
        raise UserError(
            f'SSIM cannot be computed for images of {target.shape[1]} x {target.shape[2]}, smaller '
            f'than its window of {WINDOW} x {WINDOW} pixels. Use larger images.'
        )
    images = (image.detach().double().clamp(0, 1).cpu().numpy() for image in (pred, target))
    wang = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    return float(structural_similarity(*images, channel_axis=0, data_range=1, **wang))


def load_lpips() -> nn.Module | None:
    """Load LPIPS on the CPU for ``lpips_distance``; log and return None if it is not on disk."""
    weights = Path(torch.hub.get_dir(), 'checkpoints', ALEXNET)
    if importlib.util.find_spec('lpips') is None:
        missing = f'the package lpips is not installed. Run {INSTALL}, then {DOWNLOAD}'
    elif not weights.is_file():
        missing = f'{weights} does not exist. Download it: {DOWNLOAD}'
    else:
        return importlib.import_module('lpips').LPIPS(net='alex', verbose=False).eval()
    print_log(f'LPIPS is not computed: {missing}', logger='current', level=logging.INFO)
    return None


@torch.no_grad()
def lpips_distance(model: nn.Module, pred: Tensor, target: Tensor) -> float:
    """Return the LPIPS, 0 for equal images; pred, target (3, H, W), clamped to [0, 1]."""
    images = (2 * image[None].float().clamp(0, 1) - 1 for image in (pred, target))  # in [-1, 1]
    return model(*images).item()


@METRICS.register_module()
class ImageQuality(BaseMetric):
    """PSNR, SSIM and, if installed, LPIPS of whole images, averaged over images.

    Reports ``psnr`` in dB, ``ssim`` and ``lpips`` (lower is better). Reads ``original`` and
    ``reconstruction`` (3, H, W), RGB in [0, 1], as set by ``FINOLA.predict``. Use ``MaskedPSNR``
    for images with a visible block.

    Args:
        lpips (bool): Whether to compute LPIPS. Defaults to True.
        per_folder (bool): Whether to also report the PSNR of each image folder as
            ``psnr/<folder>``, such as a class or one photograph's crops. Defaults to False.
        kwargs: ``collect_device`` and ``prefix`` of MMEngine's ``BaseMetric``.
    """

    default_prefix = 'image'

    def __init__(self, *, lpips: bool = True, per_folder: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.per_folder = per_folder
        self.lpips = load_lpips() if lpips else None
        importlib.import_module('skimage.metrics')  # not after the first epoch, if it is missing

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            pred, target = sample['reconstruction'], sample['original']
            values = [psnr(pred, target).item(), ssim(pred, target)]
            if self.lpips is not None:
                self.lpips.to(pred.device)
                values.append(lpips_distance(self.lpips, pred, target))
            folder = Path(sample['img_path']).parent.name if self.per_folder else ''
            folder = re.sub(r'[^\w. -]', '_', folder)  # MLflow refuses others in a metric's name
            self.results.append((folder, values))

    def compute_metrics(self, results: list) -> dict[str, float]:
        folders, values = zip(*results, strict=True)
        means = torch.tensor(values, dtype=torch.float64).mean(0).tolist()
        metrics = dict(zip(('psnr', 'ssim', 'lpips'), means, strict=False))
        if self.per_folder:
            psnr_by_folder: dict[str, list[float]] = defaultdict(list)
            for folder, (value, *_) in results:
                psnr_by_folder[folder].append(value)
            metrics |= {f'psnr/{k}': sum(v) / len(v) for k, v in sorted(psnr_by_folder.items())}
        return metrics


@METRICS.register_module()
class MaskedPSNR(BaseMetric):
    """PSNR of the masked region, compared with filling it with the visible block's mean colour.

    Reports ``psnr``, ``psnr_mean_colour`` and their difference ``gain``, all in dB, averaged
    over images. Reads the fields set by ``MaskedFINOLA.predict``. The arguments are those of
    MMEngine's ``BaseMetric``, ``collect_device`` and ``prefix``.
    """

    default_prefix = 'masked'

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            original, mask = sample['original'], sample['mask']  # True = masked
            visible = original[(~mask).expand_as(original)].view(3, -1)  # (3, visible pixels)
            mean_colour = visible.mean(1)[:, None, None].expand_as(original)
            guesses = (sample['reconstruction'], mean_colour)
            self.results.append([psnr(guess, original, mask).item() for guess in guesses])

    def compute_metrics(self, results: list) -> dict[str, float]:
        predicted, mean_colour = torch.tensor(results, dtype=torch.float64).mean(0).tolist()
        gain = predicted - mean_colour
        return dict(psnr=predicted, psnr_mean_colour=mean_colour, gain=gain)
