"""Peak signal-to-noise ratio as the papers' tables have it.

Per image, on de-normalised pixels clamped to [0, 1]; a table gives the mean over images.
We differ in one thing: an image is worth at most 100 dB, so that the perfect guess of one plain
image does not make the mean infinite.
"""

import torch
from torch import Tensor


def psnr(pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """10 log10(1 / MSE) of one image in dB, at most 100, over all pixels or those of ``mask``.

    pred, target (3, H, W), clamped to [0, 1]; mask (1, H, W) bool, True = counts. A scalar in
    float64.
    """
    error = (pred.double().clamp(0, 1) - target.double().clamp(0, 1)) ** 2
    if mask is not None:
        error = error[mask.expand_as(error)]
    return -10 * torch.log10(error.mean().clamp(min=1e-10))
