"""Decode, shrink and encode pictures with Pillow.

Pillow, not OpenCV: scenes need its rotation of images with transparency, and its results do not
depend on the number of threads.
"""

import io

from PIL import Image

ALPHA = 127  # pixels of a cut-out with a larger alpha belong to the object
LARGEST_CUTOUT = 640  # longest side in pixels; larger ones are shrunk


def decode_picture(data: bytes) -> Image.Image:
    """Decode a picture as RGB."""
    return to_rgb(Image.open(io.BytesIO(data)))


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to RGB; transparent regions become white."""
    if image.mode in ('RGBA', 'LA', 'PA') or 'transparency' in image.info:
        image = image.convert('RGBA')
        white = Image.new('RGB', image.size, (255, 255, 255))
        white.paste(image, mask=image.getchannel('A'))
        return white
    return image.convert('RGB')


def shrink(image: Image.Image, side: int) -> Image.Image:
    """Return a copy whose longer side is at most ``side`` pixels."""
    image = image.copy()
    if max(image.size) > side:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def encode_jpeg(image: Image.Image, quality: int, *, full_colour: bool = True) -> bytes:
    """Encode an image; with ``full_colour``, colours are stored at full resolution (4:4:4)."""
    stream = io.BytesIO()
    subsampling = {'subsampling': 0} if full_colour else {}
    image.save(stream, 'JPEG', quality=quality, **subsampling)
    return stream.getvalue()


def extract_cutout(data: bytes) -> Image.Image:
    """Decode a cut-out as RGBA, cropped to the object."""
    image = Image.open(io.BytesIO(data)).convert('RGBA')
    box = image.getchannel('A').point(lambda alpha: 255 * (alpha > ALPHA)).getbbox()
    return shrink(image.crop(box), LARGEST_CUTOUT)
