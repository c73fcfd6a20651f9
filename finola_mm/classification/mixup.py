"""mmpretrain's Mixup, without waiting for the GPU."""

import numpy as np
import torch
from mmengine.registry import Registry
from mmpretrain.models import Mixup as _Mixup
from mmpretrain.registry import BATCH_AUGMENTS as PARENT
from torch import Tensor

BATCH_AUGMENTS = Registry('batch augment', parent=PARENT, scope='finola_mm')


@BATCH_AUGMENTS.register_module()
class Mixup(_Mixup):
    """mmpretrain's ``Mixup``, whose permutation is copied to the GPU without waiting.

    The random numbers are drawn on the CPU, as in mmpretrain.

    Args:
        alpha (float): Both parameters of the Beta distribution of the mixing ratio.
    """

    def mix(self, batch_inputs: Tensor, batch_scores: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, 3, H, W) and scores (N, classes) -> the same, mixed with another image's."""
        ratio = np.random.beta(self.alpha, self.alpha)
        order = torch.randperm(len(batch_inputs)).to(batch_inputs.device, non_blocking=True)
        mixed = [ratio * x + (1 - ratio) * x[order] for x in (batch_inputs, batch_scores)]
        return mixed[0], mixed[1]
