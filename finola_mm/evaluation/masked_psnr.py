"""How well the masked region was predicted.

Peak signal-to-noise ratio as the paper's tables have it: per image, on de-normalised pixels
clamped to [0, 1], then the mean over images. Here only the masked pixels count.
We differ in one thing: an image is worth at most 100 dB, so that the perfect guess of one plain
image does not make the mean infinite.
"""

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from ..registry import METRICS


def psnr(pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """10 log10(1 / MSE) in dB, at most 100, over the pixels where ``mask``.

    pred, target (3, H, W), clamped to [0, 1]; mask (1, H, W) bool, True = counts. A scalar in
    float64.
    """
    error = (pred.double().clamp(0, 1) - target.double().clamp(0, 1)) ** 2
    return -10 * torch.log10(error[mask.expand_as(error)].mean().clamp(min=1e-10))


@METRICS.register_module()
class MaskedPSNR(BaseMetric):
    """PSNR of the masked region, and of the plainest guess: the visible block's mean colour.

    Reports ``psnr``, ``psnr_mean_colour`` and their difference ``gain``, all in dB, averaged
    over images. Reads the fields that ``MaskedFINOLA.predict`` sets.

    Args:
        collect_device (str): 'cpu' or 'gpu'. Defaults to 'cpu'.
        prefix (str, optional): Prefix of the reported names. Defaults to 'masked'.
    """

    default_prefix = 'masked'

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            original, mask = sample['original'], sample['mask']
            visible = original[(~mask).expand_as(original)].view(3, -1)  # (3, visible pixels)
            mean_colour = visible.mean(1)[:, None, None].expand_as(original)
            self.results.append(
                (
                    psnr(sample['reconstruction'], original, mask).item(),
                    psnr(mean_colour, original, mask).item(),
                )
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        predicted, mean_colour = torch.tensor(results, dtype=torch.float64).mean(0).tolist()
        return {
            'psnr': predicted,
            'psnr_mean_colour': mean_colour,
            'gain': predicted - mean_colour,
        }
