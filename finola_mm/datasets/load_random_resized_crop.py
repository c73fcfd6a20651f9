"""Load a random crop: mmcv's loading and mmpretrain's ``RandomResizedCrop`` in one step.

The crops are identical to mmpretrain's and the pixels equal up to rounding, in about half the time
(``benchmarks/loader.py``). After decoding, mmpretrain spends most of its time on passing a slice of
the image to Pillow, which NumPy copies byte by byte, and on Pillow's resizing. torch reads the
slice in place and applies the same antialiased filter with vector instructions. A large JPEG is
decoded at a half, a quarter or an eighth of its size, without the high frequencies of each 8 x 8
block.
"""

import math
import struct
from collections.abc import Sequence
from io import BytesIO

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmcv.transforms import BaseTransform
from mmengine import fileio
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile

from ..errors import UserError
from ..registry import TRANSFORMS

# Reduction of each side -> flag of OpenCV's JPEG decoder. All return BGR and apply EXIF rotation.
DECODE_FLAGS = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}


@TRANSFORMS.register_module()
class LoadRandomResizedCrop(BaseTransform):
    """Replace ``LoadImageFromFile`` and ``RandomResizedCrop(backend='pillow')``.

    The crop is drawn for the size in the JPEG header, with the same draws from ``numpy.random`` as
    in mmpretrain. The image is then decoded at the smallest scale at which the crop has at least
    the resolution of the output. At full scale the pixels differ from mmpretrain's by at most
    2 grey levels. At a reduced scale the decoder's low-pass filter replaces part of the resizing,
    and the crop moves by up to half a pixel of the decoded image.

    **Required keys:** img_path. **Added keys:** img, (h, w, 3) uint8 in BGR order, as OpenCV loads
    it; img_shape (h, w) of the output; ori_shape (h, w) of the whole image after EXIF rotation.

    Args:
        scale (int | Sequence[int]): Size of the output in pixels: a side, or (h, w).
        crop_ratio_range (tuple[float, float]): Smallest and largest share of the image's area.
            Defaults to (0.08, 1.0).
        aspect_ratio_range (tuple[float, float]): Smallest and largest width / height. Defaults to
            (3 / 4, 4 / 3).
        max_attempts (int): Number of draws until a crop fits into the image; if none fits, the
            largest centred crop is used. Defaults to 10.
        interpolation (str): 'bilinear' or 'bicubic', both antialiased. Defaults to 'bilinear'.
        backend_args (dict, optional): Storage back end, for ``mmengine.fileio.get``.

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
        backend_args: dict | None = None,
    ):
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
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        path = results['img_path']
        data = fileio.get(path, backend_args=self.backend_args)
        size = read_jpeg_size(data)
        if size:
            box = self.draw_box(*size)
            reduction = self.choose_reduction(box)
            image = decode(data, path, reduction=reduction)
        else:  # another format or an unreadable header: the size is known after decoding
            image, reduction = decode(data, path), 1
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


def read_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Read (height, width) after EXIF rotation from a JPEG header; None if Pillow cannot do so."""
    try:
        header = JpegImageFile(BytesIO(data))
        exif = Image.Exif()  # header.getexif() also reads XMP, which OpenCV ignores
        exif.load(header.info.get('exif', b''))
        sideways = exif.get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    # Pillow's errors; struct.error means invalid EXIF data, which OpenCV ignores.
    except (OSError, SyntaxError, ValueError, struct.error):
        return None
    width, height = header.size
    return (width, height) if sideways else (height, width)


def decode(data: bytes, path: str, *, reduction: int = 1) -> np.ndarray:
    """Decode an image to (h, w, 3) uint8, BGR, after EXIF rotation; ``path`` is for the message.

    Raises:
        UserError: the data is empty, truncated or not an image. Damage within a file is not
            detected, as in Pillow.
    """
    pixels = np.frombuffer(data, np.uint8)
    image = cv2.imdecode(pixels, DECODE_FLAGS[reduction]) if data else None
    if image is None:
        raise UserError(
            f'{path} is not a complete image that OpenCV can decode ({len(data)} bytes). '
            'Download it again, or remove it from the data set.'
        )
    return image


def crop(image: np.ndarray, box: tuple[int, int, int, int], reduction: int) -> np.ndarray:
    """Cut ``box`` (top, left, height, width in the whole image) out of the reduced ``image``."""
    top, left, height, width = (round(edge / reduction) for edge in box)
    # After rounding, the box may exceed the image by a pixel; slicing ignores this.
    return image[top : top + height, left : left + width]
