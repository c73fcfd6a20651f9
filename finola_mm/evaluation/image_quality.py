"""How well whole images were reconstructed."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

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
            folder = Path(sample['img_path']).parent.name if self.per_folder else None
            self.results.append((folder, values))

    def compute_metrics(self, results: list) -> dict[str, float]:
        folders, values = zip(*results, strict=True)
        means = torch.tensor(values, dtype=torch.float64).mean(0).tolist()
        metrics = dict(zip(('psnr', 'ssim', 'lpips'), means, strict=False))
        if self.per_folder:
            metrics |= self.psnr_of_folders(folders, values)
        return metrics

    @staticmethod
    def psnr_of_folders(folders: Sequence[str], values: Sequence) -> dict[str, float]:
        of_folder = defaultdict(list)
        for folder, (value, *_) in zip(folders, values, strict=True):
            of_folder[folder].append(value)
        return {f'psnr/{name}': sum(v) / len(v) for name, v in sorted(of_folder.items())}
