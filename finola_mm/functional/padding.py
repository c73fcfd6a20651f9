"""Padding of batches whose images differ in size, at every stride.

Images are padded on the right and at the bottom. A position of a map at stride s counts as padding
if its first pixel, (s*row, s*column), is padding. An image of h rows then has ceil(h / s) valid
rows, as it has without padding.

Legend: N images, H x W pixels or positions of the batch, C channels; mask: True = padding.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def make_padding_mask(sizes: Sequence[Sequence[int]], shape: Sequence[int]) -> Tensor | None:
    """Mark the padding of images of ``sizes``, N x (h, w), in a batch of ``shape`` (H, W).

    Returns:
        (N, H, W) on the CPU, or None if no image is padded.

    Raises:
        ValueError: an image is empty or larger than the batch.
    """
    height, width = shape
    for h, w in sizes:
        if not (0 < h <= height and 0 < w <= width):
            raise ValueError(
                f'an image of {h} x {w} pixels does not fit into a batch of {height} x {width}'
            )
    if all((h, w) == (height, width) for h, w in sizes):
        return None
    rows, columns = torch.tensor([tuple(size) for size in sizes]).T[:, :, None]  # (N, 1) each
    below = torch.arange(height) >= rows  # (N, H)
    beside = torch.arange(width) >= columns  # (N, W)
    return below[:, :, None] | beside[:, None]


def copy_to_device(x: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the CPU to ``device`` without waiting for it."""
    if x.device == device or device.type != 'cuda':
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)


def downsample_mask(padding_mask: Tensor | None, stride: int = 2) -> Tensor | None:
    """Subsample a mask: (N, H, W) -> (N, ceil(H/stride), ceil(W/stride)); None stays None."""
    if padding_mask is None or stride == 1:
        return padding_mask
    return padding_mask[:, ::stride, ::stride]


def zero_padding(x: Tensor, padding_mask: Tensor | None) -> Tensor:
    """Set padded positions of x (N, C, H, W) to 0, as in a convolution's zero padding."""
    # Unlike masked_fill, torch.where keeps the memory format.
    return x if padding_mask is None else torch.where(padding_mask[:, None], 0, x)


def masked_avg_pool(x: Tensor, stride: int, padding_mask: Tensor | None = None) -> Tensor:
    """Average x (N, C, H, W) over blocks of ``stride`` x ``stride``, ignoring padded positions.

    Returns:
        (N, C, ceil(H/stride), ceil(W/stride)), 0 if a whole block is padding.
    """
    x = F.avg_pool2d(zero_padding(x, padding_mask), stride, ceil_mode=True)
    if padding_mask is None:
        return x
    share = F.avg_pool2d((~padding_mask)[:, None].to(x.dtype), stride, ceil_mode=True)
    return x / share.clamp(min=stride**-2)


def upsample_2x(x: Tensor, size: Sequence[int], padding_mask: Tensor | None = None) -> Tensor:
    """Upsample bilinearly by 2 and crop: (N, C, h, w) -> (N, C, *size).

    A fixed factor, without stretching to ``size``, keeps positions independent of the padding. With
    ``padding_mask`` (N, h, w), the weights of padded neighbours are redistributed to the others.
    """
    x = _interpolate_2x(zero_padding(x, padding_mask), size)
    if padding_mask is None:
        return x
    share = _interpolate_2x((~padding_mask)[:, None].to(x.dtype), size)  # 0 far inside the padding
    return x / share.clamp(min=1 / 16)  # at least 9/16 inside the image


def _interpolate_2x(x: Tensor, size: Sequence[int]) -> Tensor:
    x = F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False)
    return x.narrow(2, 0, size[0]).narrow(3, 0, size[1])  # a slice fixes the size in an ONNX export
