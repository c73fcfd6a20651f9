"""Images of photographed objects on photographed backgrounds, with masks and boxes.

All random choices come from a ``random.Random``. Equal seeds and pictures give equal images with
the same version of Pillow.

Legend: S the side of an image in pixels, N the objects in it.
"""

import io
from collections.abc import Mapping, Sequence
from random import Random
from typing import NamedTuple

import numpy as np
from numpy import ndarray
from PIL import Image, ImageEnhance

from .catalogue import Cutout, Photograph
from .pictures import ALPHA

BACKGROUND = 1024  # longest side of a photograph from which backgrounds are cropped
MOST_ENLARGED = 1.6  # a small cut-out is enlarged at most by this factor
MOST_TURNED = 20  # degrees, in either direction
SMALLEST = 40  # visible pixels of a pasted object
INSIDE = 0.6  # smallest share of a pasted object inside the image
VISIBLE = 0.5  # share of an object that must remain visible behind later ones


class PastedObject(NamedTuple):
    """An object in a scene."""

    cutout: Cutout
    mask: ndarray  # (S, S) bool; True = the object is visible here
    area: int  # pixels of the whole object, including those hidden or outside

    @property
    def box(self) -> list[int]:
        """x, y, width, height of the mask."""
        ys, xs = np.nonzero(self.mask)
        x, y = int(xs.min()), int(ys.min())
        return [x, y, int(xs.max()) - x + 1, int(ys.max()) - y + 1]


class Composite(NamedTuple):
    """A scene with N objects."""

    image: Image.Image  # S x S, RGB
    background: Photograph
    objects: list[PastedObject]  # in the order in which they were pasted


class Backgrounds:
    """Random square crops of photographs.

    Args:
        photographs: Those to choose from.
        stored: The JPEG of each photograph as stored in the data set.
    """

    def __init__(self, photographs: Sequence[Photograph], stored: Mapping[Photograph, bytes]):
        self.photographs = photographs
        self.stored = stored
        self.decoded: dict[Photograph, Image.Image] = {}

    def crop(self, rng: Random, side: int) -> tuple[Image.Image, Photograph]:
        """Return a crop of 55 to 100 % of the shorter side, resized to ``side``, maybe mirrored."""
        photograph = rng.choice(self.photographs)
        image = self._decode(photograph)
        shorter = min(image.size)
        crop = int(shorter * rng.uniform(0.55, 1.0))
        x, y = rng.randint(0, image.width - crop), rng.randint(0, image.height - crop)
        image = image.crop((x, y, x + crop, y + crop))
        image = image.resize((side, side), Image.Resampling.BICUBIC)
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return image, photograph

    def _decode(self, photograph: Photograph) -> Image.Image:
        if photograph not in self.decoded:
            image = Image.open(io.BytesIO(self.stored[photograph])).convert('RGB')
            image.thumbnail((BACKGROUND, BACKGROUND))
            self.decoded[photograph] = image
        return self.decoded[photograph]


def _vary(
    rng: Random, cutout: Image.Image, side: int, low: float, high: float
) -> tuple[Image.Image, Image.Image]:
    """Return a scaled, mirrored, turned and re-lit copy of a cut-out (RGBA), as RGB and alpha.

    Its longer side before turning is log-uniform between ``low`` and ``high`` times ``side``.
    """
    target = side * low * (high / low) ** rng.random()
    scale = min(target / max(cutout.size), MOST_ENLARGED)
    width, height = (max(2, round(length * scale)) for length in cutout.size)
    image = cutout.resize((width, height), Image.Resampling.LANCZOS)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    angle = rng.uniform(-MOST_TURNED, MOST_TURNED)
    image = image.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    *colours, alpha = image.split()
    picture = Image.merge('RGB', colours)
    for enhance, least, most in (
        (ImageEnhance.Brightness, 0.75, 1.2),
        (ImageEnhance.Contrast, 0.8, 1.15),
        (ImageEnhance.Color, 0.7, 1.2),
    ):
        picture = enhance(picture).enhance(rng.uniform(least, most))
    return picture, alpha


def draw_object(
    rng: Random, cutout: Image.Image, backgrounds: Backgrounds, side: int
) -> Image.Image:
    """Draw one object, 55 to 90 % of the side before turning, near the centre of a background."""
    image, _ = backgrounds.crop(rng, side)
    picture, alpha = _vary(rng, cutout, side, 0.55, 0.9)
    x = (side - picture.width) // 2 + rng.randint(-12, 12)
    y = (side - picture.height) // 2 + rng.randint(-12, 12)
    image.paste(picture, (x, y), alpha)
    return image


def draw_scene(
    rng: Random,
    cutouts: Mapping[str, Sequence[Cutout]],
    pictures: Mapping[Cutout, Image.Image],
    backgrounds: Backgrounds,
    side: int,
) -> Composite:
    """Draw a scene of up to six objects.

    An object is skipped if less than 60 % of it would lie inside the image, or if it would leave
    less than half of an earlier object visible.

    cutouts: those of each class, in the order of the classes.
    """
    image, photograph = backgrounds.crop(rng, side)
    objects: list[PastedObject] = []
    classes = list(cutouts)
    for _ in range(rng.randint(1, 6)):
        cutout = rng.choice(cutouts[rng.choice(classes)])
        picture, alpha = _vary(rng, pictures[cutout], side, 0.14, 0.6)
        x, y = (rng.randint(-n // 6, side - n + n // 6) for n in picture.size)
        layer = Image.new('L', (side, side), 0)
        layer.paste(alpha, (x, y))
        mask = np.asarray(layer) > ALPHA
        area = int((np.asarray(alpha) > ALPHA).sum())
        hides = any((o.mask & ~mask).sum() < VISIBLE * o.area for o in objects)
        if mask.sum() < max(SMALLEST, INSIDE * area) or hides:
            continue
        image.paste(picture, (x, y), alpha)
        objects = [o._replace(mask=o.mask & ~mask) for o in objects]
        objects.append(PastedObject(cutout, mask, area))
    return Composite(image, photograph, objects)


def encode_rle(mask: ndarray) -> dict:
    """Encode a mask (H, W) as COCO's uncompressed run lengths: by columns, starting with zeros."""
    flat = mask.astype(np.uint8).ravel(order='F')
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *changes, flat.size]).tolist()
    return {'size': list(mask.shape), 'counts': [0, *counts] if flat[0] else counts}
