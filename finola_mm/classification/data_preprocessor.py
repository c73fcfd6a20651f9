"""mmpretrain's data preprocessor for classification, without waiting for the GPU."""

from typing import Any

import torch
from mmpretrain.models import ClsDataPreprocessor as _ClsDataPreprocessor

from ..registry import MODELS


@MODELS.register_module()
class ClsDataPreprocessor(_ClsDataPreprocessor):
    """mmpretrain's ``ClsDataPreprocessor`` with non-blocking copies of images and labels.

    Args:
        **kwargs: Arguments of mmpretrain's class.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._non_blocking = True

    def forward(self, data: dict, training: bool = False) -> dict:
        """Images (N, 3, H, W) and labels -> normalized images, float32, and the data samples."""
        samples = data.get('data_samples') or ()
        labelled = [sample for sample in samples if 'gt_label' in sample]
        if labelled:  # mmpretrain's own copy of them waits for the GPU
            labels = [sample.gt_label for sample in labelled]
            flat = torch.cat(labels).to(self.device, non_blocking=True)
            for sample, label in zip(labelled, flat.split([len(x) for x in labels]), strict=True):
                sample.set_gt_label(label)
        return super().forward(data, training)
