"""What of a padded batch is image and what is padding, at every stride.

Images of different sizes share one batch by padding at the right and at the bottom. A position of a
map at stride s is padding where its first pixel, (s*row, s*column), is: an image of h rows then has
ceil(h / s) of them, exactly as many as when it is alone.

Legend: N images, H x W pixels or positions of the batch, C channels; mask: True = padding.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def make_padding_mask(sizes: Sequence[Sequence[int]], shape: Sequence[int]) -> Tensor | None:
    """Image sizes, N x (h, w), in a batch of ``shape`` (H, W) -> (N, H, W), True = padding, on the
    CPU; None where every image fills the batch.

    Raises:
        ValueError: an image that is larger than the batch, or empty.
    """
    height, width = shape
    for h, w in sizes:
        if not (0 < h <= height and 0 < w <= width):
            raise ValueError(f'an image of {h} x {w} pixels in a batch of {height} x {width}')
    if all((h, w) == (height, width) for h, w in sizes):
        return None
    rows, columns = torch.tensor([tuple(size) for size in sizes]).T[:, :, None]  # (N, 1) each
    below = torch.arange(height) >= rows  # (N, H)
    beside = torch.arange(width) >= columns  # (N, W)
    return below[:, :, None] | beside[:, None]


def downsample_mask(padding: Tensor | None, stride: int = 2) -> Tensor | None:
    """The mask (N, H, W) at a ``stride``, (N, ceil(H/stride), ceil(W/stride)); None stays None."""
    return padding if padding is None or stride == 1 else padding[:, ::stride, ::stride]


def zero_padding(x: Tensor, padding: Tensor | None) -> Tensor:
    """x (N, C, H, W) with 0 at its padding (N, H, W), as a convolution sees beyond a border."""
    # Unlike masked_fill this keeps the memory format.
    return x if padding is None else torch.where(padding[:, None], 0, x)


def masked_avg_pool(x: Tensor, stride: int, padding: Tensor | None = None) -> Tensor:
    """x (N, C, H, W) averaged over blocks of ``stride`` x ``stride``, each over those of its
    positions that lie in the image: (N, C, ceil(H/stride), ceil(W/stride))."""
    x = F.avg_pool2d(zero_padding(x, padding), stride, ceil_mode=True)
    if padding is None:
        return x
    share = F.avg_pool2d((~padding)[:, None].to(x.dtype), stride, ceil_mode=True)
    return x / share.clamp(min=stride**-2)  # 0 where all is padding


def upsample_2x(x: Tensor, size: tuple[int, int], padding: Tensor | None = None) -> Tensor:
    """Bilinear upsampling, (N, C, h, w) -> (N, C, *size), by a factor of 2 and cut to ``size``.

    A factor instead of a stretch to ``size``: where a position lies then does not depend on how far
    the batch is padded. ``padding`` (N, h, w): weights of padded neighbours go to the others, which
    at the border of the image is what the border of a batch does.
    """
    x = _doubled(zero_padding(x, padding), size)
    if padding is None:
        return x
    share = _doubled((~padding)[:, None].to(x.dtype), size)  # 0 far in the padding
    return x / share.clamp(min=1 / 16)  # at a position of the image at least 9/16


def _doubled(x: Tensor, size: tuple[int, int]) -> Tensor:
    x = F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False)
    return x.narrow(2, 0, size[0]).narrow(3, 0, size[1])  # a slice fixes the size in an ONNX export
