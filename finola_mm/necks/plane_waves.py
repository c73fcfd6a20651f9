"""Initialize FINOLA so that its maps are sums of plane waves."""

import torch
from torch import nn

from ..functional import plane_waves
from ..layers import FINOLALayer
from ..registry import WEIGHT_INITIALIZERS


@WEIGHT_INITIALIZERS.register_module()
class PlaneWaves:
    """Replace the drawn matrices of every ``FINOLALayer`` by those of ``functional.plane_waves``.

    Used as ``init_cfg=dict(type='finola_mm.PlaneWaves', max_frequency=2.0)`` of a neck with step
    ``'norm_linear'``. Ours, not the papers'; studies/latents.py compares it with matrices whose
    elements are drawn independently.

    Args:
        max_frequency (float): In radians per position, at most pi.
        std (float): Standard deviation of the vectors that are unrolled. Defaults to 1.
        seed (int): Seed of the planes of rotation. Defaults to 0.
    """

    def __init__(self, max_frequency: float, *, std: float = 1.0, seed: int = 0):
        self.max_frequency = max_frequency
        self.std = std
        self.seed = seed

    def __call__(self, module: nn.Module) -> None:
        for layer in module.modules():
            if isinstance(layer, FINOLALayer):
                generator = torch.Generator().manual_seed(self.seed)
                matrices = plane_waves(layer.channels, self.max_frequency, self.std, generator)
                for name, matrix in matrices.items():
                    layer.get_parameter(name).data.copy_(matrix)
