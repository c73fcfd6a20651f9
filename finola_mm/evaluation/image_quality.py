"""How well whole images were reconstructed."""

import logging
from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from ..registry import METRICS
from .lpips import LPIPSUnavailable, load_lpips, lpips_distance
from .psnr import psnr
from .ssim import ssim


@METRICS.register_module()
class ImageQuality(BaseMetric):
    """PSNR, SSIM and, where it is installed, LPIPS of whole images, averaged over images.

    Reports ``psnr`` in dB, ``ssim`` and ``lpips`` (less is better). Reads ``original`` and
    ``reconstruction`` (3, H, W), RGB in [0, 1], as ``FINOLA.predict`` sets them. For images of
    which a part was visible there is ``MaskedPSNR``.

    Args:
        lpips (bool): Whether to compute LPIPS; the log says once what it lacks. Defaults to True.
        collect_device (str): 'cpu' or 'gpu'. Defaults to 'cpu'.
        prefix (str, optional): Prefix of the reported names. Defaults to 'image'.
    """

    default_prefix = 'image'

    def __init__(self, *, lpips: bool = True, collect_device: str = 'cpu', prefix=None):
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.lpips = None
        if lpips:
            try:
                self.lpips = load_lpips()
            except LPIPSUnavailable as error:
                print_log(f'No LPIPS: {error}', logger='current', level=logging.INFO)

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            pred, target = sample['reconstruction'], sample['original']
            values = [psnr(pred, target).item(), ssim(pred, target)]
            if self.lpips is not None:
                self.lpips.to(pred.device)
                values.append(lpips_distance(self.lpips, pred, target))
            self.results.append(values)

    def compute_metrics(self, results: list) -> dict[str, float]:
        means = torch.tensor(results, dtype=torch.float64).mean(0).tolist()
        return dict(zip(('psnr', 'ssim', 'lpips'), means, strict=False))
