"""Sine positions of a map, counted within each image's own extent.

Source: DETR (arXiv 2005.12872), Appendix A.4, normalised as in its code: rows and columns run from
1/h and 1/w of the image to 1, times 2 pi. A padded image has the positions that it has alone.

Legend: N images, H x W positions, D channels; mask: True = padding.
"""

import math

import torch
from torch import Tensor


def sine_positions(padding: Tensor, channels: int, *, temperature: float = 10000.0) -> Tensor:
    """Mask (N, H, W) -> positions (N, H, W, D): D/2 channels of the row, then D/2 of the column.

    Each half is sine and cosine in turn, at D/4 frequencies. float32.

    Raises:
        ValueError: ``channels`` D is no multiple of 4.
    """
    if channels % 4:
        raise ValueError(f'positions need a multiple of 4 channels, got {channels}')
    valid = (~padding).float()
    index = torch.arange(channels // 4, device=padding.device) * (4 / channels)
    frequency = 2 * math.pi * temperature**-index  # (D/4,)
    waves = []
    for axis in (1, 2):
        count = valid.cumsum(axis)  # (N, H, W), 1 at the first
        total = count.amax(axis, keepdim=True).clamp(min=1)  # a row may be padding throughout
        angle = (count / total)[..., None] * frequency  # (N, H, W, D/4)
        waves.append(torch.stack((angle.sin(), angle.cos()), dim=4).flatten(3))
    return torch.cat(waves, dim=3)
