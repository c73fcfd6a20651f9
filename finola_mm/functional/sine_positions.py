"""Sine positional embedding, computed within each image's own extent.

Source: DETR (arXiv 2005.12872), Appendix A.4, normalized as in its code: for an image of h rows and
w columns, rows run from 1/h to 1 and columns from 1/w to 1, times 2 pi. Padding does not change the
positions of an image.

Legend: N images, H x W positions, D channels; mask: True = padding.
"""

import math

import torch
from torch import Tensor


def sine_positions(padding_mask: Tensor, channels: int, *, temperature: float = 10000.0) -> Tensor:
    """Embed the positions of a map: mask (N, H, W) -> (N, H, W, D) in float32.

    The first D/2 channels encode the row, the others the column. Each half alternates sine and
    cosine at D/4 frequencies.

    Raises:
        ValueError: D is not a multiple of 4.
    """
    if channels % 4:
        raise ValueError(f'channels must be a multiple of 4, got {channels}')
    valid = ~padding_mask
    index = torch.arange(0, 1, 4 / channels, device=padding_mask.device)
    frequency = 2 * math.pi * temperature**-index  # (D/4,)
    shares = []
    for axis in (1, 2):
        count = valid.cumsum(axis)  # (N, H, W), 1 at the first position
        total = count.narrow(axis, -1, 1).clamp(min=1)  # a row may be all padding
        shares.append(count / total)
    angle = torch.stack(shares, dim=3)[..., None] * frequency  # (N, H, W, 2, D/4)
    return torch.stack((angle.sin(), angle.cos()), dim=5).flatten(3)
