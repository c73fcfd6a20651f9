"""PSNR, SSIM and LPIPS of one image.

SSIM: Wang et al., "Image quality assessment: from error visibility to structural similarity"
(2004), by scikit-image: Gaussian window of sigma 1.5, 11 x 11 pixels, population variances,
K1 = 0.01, K2 = 0.03. The paper compares grey images; here it is the mean over the colours.

LPIPS: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric"
(2018), by the authors' package ``lpips``, version 0.1 on AlexNet. The package contains the weights
of the distance, torchvision downloads those of AlexNet. Nothing is downloaded here.
"""

import importlib
import importlib.util
import logging
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..errors import UserError

WINDOW = 11  # side of SSIM's window, pixels
ALEXNET = 'alexnet-owt-7be5be79.pth'  # torchvision's file name, as in AlexNet_Weights
INSTALL = 'python -m pip install lpips'
DOWNLOAD = 'python -c "import lpips; lpips.LPIPS(net=\'alex\')"'


def psnr(pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """10 log10(1 / MSE) in dB, a float64 scalar, over all pixels or those of ``mask``.

    At most 100 dB, so that a perfect guess of one plain image leaves the mean finite. The papers'
    tables give the mean over images of de-normalised pixels.

    pred, target (3, H, W), clamped to [0, 1]; mask (1, H, W) bool, True = counts.
    """
    error = (pred.double().clamp(0, 1) - target.double().clamp(0, 1)) ** 2
    if mask is not None:
        error = error[mask.expand_as(error)]
    return -10 * torch.log10(error.mean().clamp(min=1e-10))


def ssim(pred: Tensor, target: Tensor) -> float:
    """SSIM, at most 1; pred, target (3, H, W), clamped to [0, 1], H and W >= 11.

    Raises:
        UserError: the images are smaller than the window.
    """
    from skimage.metrics import structural_similarity  # slow to import

    if min(target.shape[1:]) < WINDOW:
        raise UserError(
            f'SSIM cannot be computed of images of {target.shape[1]} x {target.shape[2]}, smaller '
            f'than its window of {WINDOW} x {WINDOW} pixels. Use larger images.'
        )
    images = (image.detach().double().clamp(0, 1).cpu().numpy() for image in (pred, target))
    return float(
        structural_similarity(
            *images,
            channel_axis=0,
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def load_lpips() -> nn.Module | None:
    """LPIPS on the CPU, for ``lpips_distance``; None if it is not on disk, which is logged."""
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
    """LPIPS, 0 for equal images; pred, target (3, H, W), clamped to [0, 1]."""
    images = (2 * image[None].float().clamp(0, 1) - 1 for image in (pred, target))  # in [-1, 1]
    return model(*images).item()
