"""Metrics of reconstructed images: whole images, and the masked region."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.evaluator import BaseMetric

from ..registry import METRICS
from .image_quality import load_lpips, lpips_distance, psnr, ssim


@METRICS.register_module()
class ImageQuality(BaseMetric):
    """PSNR, SSIM and, where installed, LPIPS of whole images, averaged over images.

    Reports ``psnr`` in dB, ``ssim`` and ``lpips`` (lower is better). Reads ``original`` and
    ``reconstruction`` (3, H, W), RGB in [0, 1], as set by ``FINOLA.predict``. Use ``MaskedPSNR``
    for images with a visible block.

    Args:
        lpips (bool): Whether to compute LPIPS. Defaults to True.
        per_folder (bool): Whether to report the PSNR of each folder of images as well, as
            ``psnr/<folder>``: of a class, or of one photograph's crops. Defaults to False.
        collect_device (str): 'cpu' or 'gpu'. Defaults to 'cpu'.
        prefix (str, optional): Prefix of the reported names. Defaults to 'image'.
    """

    default_prefix = 'image'

    def __init__(
        self,
        *,
        lpips: bool = True,
        per_folder: bool = False,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ):
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.per_folder = per_folder
        self.lpips = load_lpips() if lpips else None

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            pred, target = sample['reconstruction'], sample['original']
            values = [psnr(pred, target).item(), ssim(pred, target)]
            if self.lpips is not None:
                self.lpips.to(pred.device)
                values.append(lpips_distance(self.lpips, pred, target))
            folder = Path(sample['img_path']).parent.name if self.per_folder else None
            self.results.append((folder, values))

    def compute_metrics(self, results: list) -> dict[str, float]:
        folders, values = zip(*results, strict=True)
        means = torch.tensor(values, dtype=torch.float64).mean(0).tolist()
        metrics = dict(zip(('psnr', 'ssim', 'lpips'), means, strict=False))
        if self.per_folder:
            psnr_by_folder = defaultdict(list)
            for folder, (value, *_) in results:
                psnr_by_folder[folder].append(value)
            metrics |= {f'psnr/{k}': sum(v) / len(v) for k, v in sorted(psnr_by_folder.items())}
        return metrics


@METRICS.register_module()
class MaskedPSNR(BaseMetric):
    """PSNR of the masked region, compared with filling it with the visible block's mean colour.

    Reports ``psnr``, ``psnr_mean_colour`` and their difference ``gain``, all in dB, averaged
    over images. Reads the fields set by ``MaskedFINOLA.predict``.

    Args:
        collect_device (str): 'cpu' or 'gpu'. Defaults to 'cpu'.
        prefix (str, optional): Prefix of the reported names. Defaults to 'masked'.
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
        return {
            'psnr': predicted,
            'psnr_mean_colour': mean_colour,
            'gain': predicted - mean_colour,
        }
