"""How well the masked region was predicted: PSNR over the masked pixels only."""

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric

from ..registry import METRICS
from .psnr import psnr


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
