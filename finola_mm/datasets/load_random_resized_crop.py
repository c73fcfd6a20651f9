"""Load a random crop: mmcv's loading and mmpretrain's ``RandomResizedCrop`` in one step.

The crops are identical to mmpretrain's and the pixels equal up to rounding, in about half the time
(``benchmarks/loader.py``). After decoding, mmpretrain spends most of its time on passing a slice of
the image to Pillow, which NumPy copies byte by byte, and on Pillow's resizing. torch reads the
slice in place and applies the same antialiased filter with vector instructions. A large JPEG is
decoded at a half, a quarter or an eighth of its size, without the high frequencies of each 8 x 8
block.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import UserError
from ..registry import TRANSFORMS
from .decoding import DECODE_FLAGS, LoadImageFromFile, read_jpeg_size


@TRANSFORMS.register_module()
class LoadRandomResizedCrop(LoadImageFromFile):
    """Replace ``LoadImageFromFile`` and ``RandomResizedCrop(backend='pillow')``.

    The crop is drawn for the size in the JPEG header, with the same draws from ``numpy.random`` as
    in mmpretrain. The image is then decoded at the smallest scale at which the crop has at least
    the resolution of the output. At full scale the pixels differ from mmpretrain's by at most
    2 grey levels. At a reduced scale the decoder's low-pass filter replaces part of the resizing,
    and the crop moves by up to half a pixel of the decoded image.

    **Required keys:** img_path. **Added keys:** img, (h, w, 3) uint8 in BGR order, as OpenCV loads
    it; img_shape (h, w) of the output; ori_shape (h, w) of the whole image, upright.

    Args:
        scale (int | Sequence[int]): Size of the output in pixels: a side, or (h, w).
        crop_ratio_range (tuple[float, float]): Smallest and largest share of the image's area.
            Defaults to (0.08, 1.0).
        aspect_ratio_range (tuple[float, float]): Smallest and largest width / height. Defaults to
            (3 / 4, 4 / 3).
        max_attempts (int): Number of draws until a crop fits into the image; if none fits, the
            largest centred crop is used. Defaults to 10.
        interpolation (str): 'bilinear' or 'bicubic', both antialiased. Defaults to 'bilinear'.
        full_scale, backend_args: As in ``LoadImageFromFile``.

    Raises:
        UserError: a setting out of range; a file that is empty, truncated or not an image.
    """

    def __init__(
        self,
        scale: int | Sequence[int],
        crop_ratio_range: tuple[float, float] = (0.08, 1.0),
        *,
        aspect_ratio_range: tuple[float, float] = (3 / 4, 4 / 3),
        max_attempts: int = 10,
        interpolation: str = 'bilinear',
        full_scale: float | None = None,
        backend_args: dict | None = None,
    ):
        super().__init__(full_scale=full_scale, backend_args=backend_args)
        self.scale = (scale, scale) if isinstance(scale, int) else tuple(scale)
        if len(self.scale) != 2 or min(self.scale) < 1:
            raise UserError(f'scale is {scale}; set it to a side or (height, width) in pixels')
        ranges = dict(crop_ratio_range=crop_ratio_range, aspect_ratio_range=aspect_ratio_range)
        for name, (low, high) in ranges.items():
            if not 0 < low <= high:
                raise UserError(f'{name} is {(low, high)}; it must satisfy 0 < smallest <= largest')
        if interpolation not in ('bilinear', 'bicubic'):
            raise UserError(
                f"interpolation is {interpolation!r}; it must be 'bilinear' or 'bicubic'. For "
                'other modes, use LoadImageFromFile and RandomResizedCrop.'
            )
        self.crop_ratio_range = crop_ratio_range
        self.aspect_ratio_range = aspect_ratio_range
        self.max_attempts = max_attempts
        self.interpolation = interpolation

    def transform(self, results: dict) -> dict:
        path = results['img_path']
        data = self.read(path)
        size = read_jpeg_size(data)
        if size:
            box = self.draw_box(*size)
            reduction = self.choose_reduction(box)
            image = self.decode(data, path, reduction=reduction)
        else:  # another format or an unreadable header: the size is known after decoding
            image, reduction = self.decode(data, path), 1
            size = image.shape[:2]
            box = self.draw_box(*size)
        results['img'] = self.resize(crop(image, box, reduction))
        results['img_shape'] = self.scale
        results['ori_shape'] = size
        return results

    def draw_box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Draw a crop of a (height, width) image: top, left, height, width in pixels."""
        least, largest = self.aspect_ratio_range
        for _ in range(self.max_attempts):
            area = np.random.uniform(*self.crop_ratio_range) * (height * width)
            ratio = math.exp(np.random.uniform(math.log(least), math.log(largest)))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                top = np.random.randint(0, height - h + 1)
                return top, np.random.randint(0, width - w + 1), h, w
        # The largest centred crop whose aspect ratio is in range.
        w, h = min(width, round(height * largest)), min(height, round(width / least))
        return (height - h) // 2, (width - w) // 2, h, w

    def choose_reduction(self, box: tuple[int, int, int, int]) -> int:
        """Return the largest reduction at which the crop is not smaller than the output."""
        spare = min(box[2] / self.scale[0], box[3] / self.scale[1])
        return next((reduction for reduction in DECODE_FLAGS if reduction <= spare), 1)

    def resize(self, image: np.ndarray) -> np.ndarray:
        """(h, w, 3) uint8 -> (*scale, 3) uint8, antialiased."""
        # With a batch dimension the permuted tensor is channels_last: no conversion is needed.
        batch = torch.from_numpy(image)[None].permute(0, 3, 1, 2)  # (1, 3, h, w)
        batch = F.interpolate(batch, self.scale, mode=self.interpolation, antialias=True)
        return batch[0].permute(1, 2, 0).numpy()


def crop(image: np.ndarray, box: tuple[int, int, int, int], reduction: int) -> np.ndarray:
    """Cut ``box`` (top, left, height, width in the whole image) out of the reduced ``image``."""
    top, left, height, width = (round(edge / reduction) for edge in box)
    # After rounding, the box may exceed the image by a pixel; slicing ignores this.
    return image[top : top + height, left : left + width]
