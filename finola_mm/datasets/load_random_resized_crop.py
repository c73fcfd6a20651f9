"""Load a random crop: mmcv's loading and mmpretrain's ``RandomResizedCrop`` in one step.

The crops and, but for rounding, the pixels are the host's; the time is about half
(``benchmarks/loader.py``). The host spends most of it after decoding: it hands Pillow a slice of
the image, which NumPy copies byte by byte, and Pillow resizes without vector instructions. torch
takes the slice as it is and applies the same antialiased filter in a sixth of the time. A large
JPEG is not even decoded in full: leaving out the upper frequencies of each 8 x 8 block gives a
half, a quarter or an eighth of the size.
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

from ..registry import TRANSFORMS

# Each side divided by -> the flag that makes OpenCV's JPEG decoder do so. BGR, EXIF applied.
DECODE_FLAGS = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}


@TRANSFORMS.register_module()
class LoadRandomResizedCrop(BaseTransform):
    """In place of ``LoadImageFromFile`` and ``RandomResizedCrop(backend='pillow')``.

    The crop is drawn from the size in a JPEG's header, by the same draws from ``numpy.random`` as
    mmpretrain's. Then the image is decoded at the smallest scale at which the crop still has
    at least the resolution of the output, so nothing is enlarged that would not be enlarged
    otherwise. At full scale the pixels are the host's up to rounding (2 grey levels at most); at
    a smaller one the decoder's low-pass filter takes the place of a part of the resizing, and the
    crop moves by up to half a pixel of the decoded image.

    **Required keys:** img_path. **Added keys:** img, (h, w, 3) uint8 in the order BGR, as OpenCV
    loads it; img_shape (h, w) of the output; ori_shape (h, w) of the whole image, upright.

    Args:
        scale (int | Sequence[int]): Size of the output in pixels: a side, or (h, w).
        crop_ratio_range (Sequence[float]): Least and largest share of the image's area.
            Defaults to (0.08, 1.0).
        aspect_ratio_range (Sequence[float]): Least and largest width / height. Defaults to
            (3 / 4, 4 / 3).
        max_attempts (int): Draws until one fits into the image; after that, the largest centred
            crop. Defaults to 10.
        interpolation (str): 'bilinear' or 'bicubic', both antialiased. Defaults to 'bilinear'.
        backend_args (dict, optional): Of the storage, for ``mmengine.fileio.get``.

    Raises:
        ValueError: For a file that is empty, truncated, or no image.
    """

    def __init__(
        self,
        scale: int | Sequence[int],
        crop_ratio_range: Sequence[float] = (0.08, 1.0),
        *,
        aspect_ratio_range: Sequence[float] = (3 / 4, 4 / 3),
        max_attempts: int = 10,
        interpolation: str = 'bilinear',
        backend_args: dict | None = None,
    ):
        self.scale = (scale, scale) if isinstance(scale, int) else tuple(scale)
        if len(self.scale) != 2 or min(self.scale) < 1:
            raise ValueError(f'scale must be a side or (height, width) in pixels, got {scale}')
        for name, (low, high) in (
            ('crop_ratio_range', crop_ratio_range),
            ('aspect_ratio_range', aspect_ratio_range),
        ):
            if not 0 < low <= high:
                raise ValueError(f'{name} must be 0 < least <= largest, got {(low, high)}')
        if interpolation not in ('bilinear', 'bicubic'):
            raise ValueError(
                f"interpolation must be 'bilinear' or 'bicubic', got {interpolation!r}"
                '; for others use LoadImageFromFile and RandomResizedCrop'
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
        else:  # another format, or an odd header: only decoding tells the size
            reduction = 1
            image = decode(data, path)
            size = image.shape[:2]
            box = self.draw_box(*size)
        results['img'] = self.resize(crop(image, box, reduction))
        results['img_shape'] = self.scale
        results['ori_shape'] = size
        return results

    def draw_box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Draw a crop of a (height, width) image. -> top, left, height, width, in pixels."""
        log_ratio = [math.log(ratio) for ratio in self.aspect_ratio_range]
        for _ in range(self.max_attempts):
            area = np.random.uniform(*self.crop_ratio_range) * (height * width)
            ratio = math.exp(np.random.uniform(*log_ratio))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                top = np.random.randint(0, height - h + 1)
                return top, np.random.randint(0, width - w + 1), h, w
        # The largest centred crop whose aspect ratio is in range.
        least, largest = self.aspect_ratio_range
        w, h = min(width, round(height * largest)), min(height, round(width / least))
        return (height - h) // 2, (width - w) // 2, h, w

    def choose_reduction(self, box: tuple[int, int, int, int]) -> int:
        """By how much the image may shrink before the crop is smaller than the output."""
        spare = min(box[2] / self.scale[0], box[3] / self.scale[1])
        return next((reduction for reduction in DECODE_FLAGS if reduction <= spare), 1)

    def resize(self, image: np.ndarray) -> np.ndarray:
        """(h, w, 3) uint8 -> (*scale, 3) uint8, antialiased."""
        # Permuted behind a batch dimension torch sees channels_last and skips two conversions.
        batch = torch.from_numpy(image)[None].permute(0, 3, 1, 2)  # (1, 3, h, w)
        batch = F.interpolate(batch, self.scale, mode=self.interpolation, antialias=True)
        return batch[0].permute(1, 2, 0).numpy()

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(scale={self.scale}, '
            f'crop_ratio_range={self.crop_ratio_range}, '
            f'aspect_ratio_range={self.aspect_ratio_range}, '
            f'max_attempts={self.max_attempts}, interpolation={self.interpolation!r}, '
            f'backend_args={self.backend_args})'
        )


def read_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) of the upright image by a JPEG's header; None where Pillow cannot tell it."""
    try:
        header = JpegImageFile(BytesIO(data))
        exif = Image.Exif()  # header.getexif() would believe XMP too, and OpenCV does not
        exif.load(header.info.get('exif', b''))
        on_its_side = exif.get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    # What Pillow raises for what it cannot read; struct.error for odd EXIF, which OpenCV ignores.
    except (OSError, SyntaxError, ValueError, struct.error):
        return None
    width, height = header.size
    return (width, height) if on_its_side else (height, width)


def decode(data: bytes, path: str, *, reduction: int = 1) -> np.ndarray:
    """Decode an image to (h, w, 3) uint8, BGR, upright; ``path`` is for the message.

    A file that ends too early is refused; damage in its middle goes unnoticed, as with Pillow.

    Raises:
        ValueError: If the data is empty, truncated, or no image.
    """
    pixels = np.frombuffer(data, np.uint8)
    image = cv2.imdecode(pixels, DECODE_FLAGS[reduction]) if data else None
    if image is None:
        raise ValueError(
            f'{path} is no complete image that OpenCV can decode ({len(data)} bytes): '
            'fetch it again, or remove it from the data set'
        )
    return image


def crop(image: np.ndarray, box: tuple[int, int, int, int], reduction: int) -> np.ndarray:
    """Cut ``box`` (top, left, height, width in the whole image) out of the reduced ``image``."""
    top, left, height, width = (round(edge / reduction) for edge in box)
    return image[
        top : top + height, left : left + width
    ]  # slicing forgives the odd pixel at the end
