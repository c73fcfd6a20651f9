"""Decode an image file of any format: upright, 8 bits per channel, BGR.

OpenCV decodes the pixels. Decoders disagree, also between versions, about which images they rotate
and about the scale of deep ones. Both are therefore decided here, for all formats and all readers.

**Orientation.** The value recorded in EXIF (in TIFF, tag 274; in AVIF, the properties irot and
imir), else the one in XMP (``tiff:Orientation``). An invalid value means that the image is upright.

**Depth.** 8-bit images are read unchanged. Deeper ones, integer or floating-point, are divided by
their full scale: the smallest of 1 (floating-point only), 255, 1023, 4095, 16383 and 65535 that
holds the image's maximum, or the maximum itself above these. As resampling overshoots, a maximum
may exceed its full scale by an eighth, and a full scale of 1 up to 2. Values outside are clipped,
NaN is read as 0, and alpha is dropped.
"""

import logging
import re
import struct
from contextlib import suppress

import cv2
import numpy as np
from mmcv.transforms import LoadImageFromFile as MMCVLoadImageFromFile
from mmengine import fileio
from mmengine.logging import print_log

from ..errors import UserError
from ..registry import TRANSFORMS

# Reduction of each side -> flag of OpenCV's JPEG decoder. All return BGR.
DECODE_FLAGS = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH,
}
FULL_SCALES = (255, 1023, 4095, 16383, 65535)
MIN_RANGE = 16  # grey levels of 255 between the darkest and the brightest 0.1 % of a deep image

JPEG, PNG, WEBP, OPENEXR = b'\xff\xd8', b'\x89P', b'RI', b'v/'  # the first bytes of a file
TIFF = b'II', b'MM'
# The bytes before EXIF data, which is a TIFF without pixels
EXIF = {
    JPEG: re.compile(rb'Exif\0\0'),
    PNG: re.compile(rb'eXIf(?:Exif\0\0)?'),
    WEBP: re.compile(rb'EXIF[\0-\xff]{4}(?:Exif\0\0)?'),
    **dict.fromkeys(TIFF, re.compile(rb'^')),
}
XMP = re.compile(rb'tiff:Orientation(?:\s*=\s*["\']|>)\s*(\d{1,3})')
AVIF = re.compile(rb'\0\0\0\x09(irot|imir)([\0-\xff])')
# Axis of AVIF's imir -> orientation for 0 to 3 anticlockwise quarter turns (irot)
AVIF_ORIENTATION = {None: (1, 8, 3, 6), 0: (4, 5, 2, 7), 1: (2, 7, 4, 5)}
PHOTOMETRIC, ORIENTATION, PLANAR = 262, 274, 284  # tags of TIFF
KINDS = {1: 'B', 3: 'H', 4: 'I'}  # of TIFF's values: bytes, shorts, longs


@TRANSFORMS.register_module()
class LoadImageFromFile(MMCVLoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` with the rules above; ordinary images are identical.

    mmdet's inferencers find the loader of a config by this name.

    **Required keys:** img_path. Without it, the results are returned unchanged: mmpretrain's
    inferencers have then loaded the image. **Added keys:** img, (h, w, 3) uint8; img_shape and
    ori_shape, (h, w).

    Args:
        full_scale (float, optional): The value of white in images deeper than 8 bits. By default it
            is found for each image, so the images of a data set may differ in brightness.
        backend_args (dict, optional): Storage back end, for ``mmengine.fileio.get``.

    Raises:
        UserError: a file that is empty, truncated or not an image.
    """

    def __init__(self, *, full_scale: float | None = None, backend_args: dict | None = None):
        super().__init__(backend_args=backend_args)
        if full_scale is not None and not full_scale > 0:
            raise UserError(f'full_scale is {full_scale}; set it to the value of white')
        self.full_scale = full_scale
        self.warned = False

    def transform(self, results: dict) -> dict:
        if 'img_path' in results:
            results['img'] = self.decode(self.read(results['img_path']), results['img_path'])
            results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results

    def read(self, path: str) -> bytes:
        return fileio.get(path, backend_args=self.backend_args)

    def decode(self, data: bytes, path: str, *, reduction: int = 1) -> np.ndarray:
        """Decode an image; log the first one with an implausible range of values."""
        image, problem = decode(data, path, reduction=reduction, full_scale=self.full_scale)
        if problem and not self.warned:
            self.warned = True
            message = (
                f'{path} {problem}. tools/check/images.py lists all such images; set full_scale of '
                f'{type(self).__name__} to the value of white, or convert them.'
            )
            print_log(message, logger='current', level=logging.WARNING)
        return image


def decode(
    data: bytes, path: str, *, reduction: int = 1, full_scale: float | None = None
) -> tuple[np.ndarray, str | None]:
    """Decode an image to (h, w, 3) uint8, and describe an implausible range of values, or None.

    path: for the message.
    reduction: 2, 4 or 8 decodes a JPEG at that fraction of its size.
    full_scale: the value of white in images deeper than 8 bits; by default found for each image.

    Raises:
        UserError: the data is empty, truncated or not an image. Damage within a file is not
            detected, as in Pillow.
    """
    image, problem = _read_pixels(data, reduction), None
    tags = _read_tags(data) if data.startswith(TIFF) else {}
    deep = image is not None and image.dtype != np.uint8
    if image is None or (deep and tags.get(PLANAR) == 2):  # OpenCV reads only the first plane
        raise UserError(
            f'{path} is not a complete image that OpenCV can decode ({len(data)} bytes). '
            'Download it again, convert it, or remove it from the data set.'
        )
    if deep:
        image, problem = scale_to_uint8(image, full_scale)
        if tags.get(PHOTOMETRIC) == 0:  # 0 is white; OpenCV knows only in 8 bits
            image = 255 - image
    # OpenCV turns a TIFF by its tag, whatever the flags.
    return image if ORIENTATION in tags else turn(image, read_orientation(data)), problem


def _read_pixels(data: bytes, reduction: int) -> np.ndarray | None:
    """Decode the pixels in the file's depth to (h, w, 3) BGR."""
    flags = DECODE_FLAGS[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    if data.startswith((*TIFF, OPENEXR)):
        flags = cv2.IMREAD_UNCHANGED  # others fail if the image is deep, and grey or transparent
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # no data, too many pixels, or a format that is switched off
        return None
    if image is None or image.shape[2:] == (3,):
        return image
    image = np.atleast_3d(image)  # grey, grey and alpha, or BGRA
    return image[..., :3] if image.shape[2] > 2 else image[..., :1].repeat(3, 2)


def scale_to_uint8(
    values: np.ndarray, full_scale: float | None = None
) -> tuple[np.ndarray, str | None]:
    """Scale values of any type to uint8; describe an implausible range."""
    scales = (1, *FULL_SCALES) if values.dtype.kind == 'f' else FULL_SCALES
    values = values.astype(np.float32)
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0, 0)
    scale = full_scale or next((s for s in scales if high <= (2 if s == 1 else s * 1.125)), high)
    values = np.nan_to_num(values, nan=0, posinf=scale, neginf=0)
    image = (values * (255 / scale)).round().clip(0, 255).astype(np.uint8)
    darkest, brightest = np.percentile(image, (0.1, 99.9))
    lost = values.size - finite.size
    too_high = full_scale is None and high > scales[-1]
    if not (lost or low < 0 or too_high or brightest - darkest < MIN_RANGE):
        return image, None
    return image, (
        f'has an implausible range of values: {low:g} to {high:g}'
        f'{f", and {lost} NaN or infinite" if lost else ""}; {scale:g} is read as white'
    )


def turn(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an image (h, w, 3) that is stored with this EXIF orientation upright."""
    if orientation > 4:
        image = cv2.transpose(image)
    axis = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return image if axis is None else cv2.flip(image, axis)


def read_orientation(data: bytes) -> int:
    """Return the recorded orientation of an image as in EXIF, 1 (upright) to 8."""
    if data[4:8] == b'ftyp' and (boxes := {name: byte[0] for name, byte in AVIF.findall(data)}):
        axis = boxes[b'imir'] & 1 if b'imir' in boxes else None
        return AVIF_ORIENTATION[axis][boxes.get(b'irot', 0) & 3]
    head = _read_jpeg_header(data)[1] if data.startswith(JPEG) else data
    exif = EXIF[data[:2]].search(head) if data[:2] in EXIF else None
    tags = _read_tags(head[exif.end() :]) if exif else {}
    xmp = None if ORIENTATION in tags else XMP.search(head)
    value = int(xmp[1]) if xmp else tags.get(ORIENTATION, 1)
    return value if value in range(1, 9) else 1


def read_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Read the (height, width) of an upright JPEG from its header; None if this is impossible."""
    size = _read_jpeg_header(data)[0] if data.startswith(JPEG) else None
    return size[::-1] if size and read_orientation(data) > 4 else size


def read_size(data: bytes, path: str) -> tuple[int, int]:
    """Read the (height, width) of an upright image: from a JPEG or PNG header, else by decoding.

    Raises:
        UserError: the data is not an image.
    """
    if data.startswith(PNG) and len(data) >= 24:
        width, height = struct.unpack_from('>II', data, 16)
        return (width, height) if read_orientation(data) > 4 else (height, width)
    return read_jpeg_size(data) or decode(data, path)[0].shape[:2]


def _read_jpeg_header(data: bytes) -> tuple[tuple[int, int] | None, bytes]:
    """Read the stored (height, width), if the header is complete, and the EXIF and XMP data."""
    size, metadata, position = (0, 0), b'', 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker, length = struct.unpack_from('>BH', data, position + 1)
        if marker == 0xDA:  # the pixels follow
            return size if all(size) else None, metadata
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            size = struct.unpack_from('>HH', data, position + 5)
        elif marker == 0xE1:
            metadata += data[position + 4 : position + 2 + length]
        position += 1 if marker == 0xFF else 2 + length  # 0xFF: a fill byte
    return None, metadata


def _read_tags(data: bytes) -> dict[int, int]:
    """Read the single numbers in the first directory of a TIFF, or of EXIF data: tag -> value."""
    tags: dict[int, int] = {}
    order = {b'II*\0': '<', b'MM\0*': '>'}.get(data[:4])
    if order is None:  # such as BigTIFF, for files above 4 GB
        return tags
    with suppress(struct.error):  # truncated: use what was read
        (start,) = struct.unpack_from(order + 'I', data, 4)
        (entries,) = struct.unpack_from(order + 'H', data, start)
        for position in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(order + 'HH', data, position)
            if kind in KINDS:
                (tags[tag],) = struct.unpack_from(order + KINDS[kind], data, position + 8)
    return tags
