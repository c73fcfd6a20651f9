"""Small scenes that require no download: a few objects on a smooth, lit background.

The scenes meet two requirements, as measured by ``benchmarks/shapes_contrast.py``:

* The classes can be learned in minutes on a CPU, but not from colours, thumbnails or random
  features: colour, position, size, rotation and light are independent of the class.
* An image can be completed from one quadrant: colours continue smoothly to the border, one light
  covers the whole scene, and objects are large, few and easily completed.

:func:`single_object_scene` and :func:`multi_object_scene` sample a :class:`Scene`, which is plain
data; :func:`draw` renders pixels, masks and boxes from the scene only.
The image frame is in pixels, x right, y down; colours are RGB in [0, 1].
"""

import colorsys
from typing import NamedTuple

import cv2
import numpy as np

from .shape_classes import NAMES, OUTLINES, PATCH, surface

SUPERSAMPLE = 4  # outlines are filled at 4x and averaged: 17 levels of coverage at their edges
HIDDEN = 0.25  # objects whose visible share is at most this are not drawn
NOISE = 0.012  # standard deviation of the sensor noise; 3 of 255 levels


class SceneObject(NamedTuple):
    """Class, pose and colours of an object."""

    label: int  # index into NAMES
    centre: tuple[float, float]  # x, y in pixels
    radius: float  # pixels per unit of the object's own frame
    angle: float  # radians, clockwise on the screen
    stretch: float  # width over height before rotation; negative = mirrored
    dark: tuple[float, float, float]  # where the surface is 0
    light: tuple[float, float, float]  # where the surface is 1
    seed: int  # seed of the surface


class Background(NamedTuple):
    """The colours behind the objects and the light over the whole scene."""

    kind: str  # 'linear', 'radial' or 'horizon'
    angle: float  # radians, the direction in which the colour changes
    centre: tuple[float, float]  # in units of the image's sides
    near: tuple[float, float, float]
    far: tuple[float, float, float]
    lamp: tuple[float, float]  # in units of the image's sides
    falloff: float  # share of the light lost at a distance of one image side from the lamp


class Scene(NamedTuple):
    """A complete description of an image."""

    size: tuple[int, int]  # height, width in pixels
    background: Background
    objects: tuple[SceneObject, ...]  # from back to front
    seed: int  # seed of the sensor noise


class Drawing(NamedTuple):
    """A rendered scene with its N visible objects."""

    image: np.ndarray  # (H, W, 3) uint8, RGB
    labels: np.ndarray  # (N,) int64
    masks: np.ndarray  # (N, H, W) bool; True = the object is visible here
    boxes: np.ndarray  # (N, 4) int64: x, y, width, height of the mask


def _colour(rng, saturation, value):
    return colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(*saturation), rng.uniform(*value))


def _scene_object(rng, label, centre, radius):
    # Dark and light differ enough to show the surface in every pair of hues.
    angle = rng.uniform(-0.6, 0.6)
    stretch = rng.uniform(0.85, 1.15) * rng.choice([-1, 1])
    dark, light = _colour(rng, (0.3, 0.9), (0.2, 0.45)), _colour(rng, (0.1, 0.7), (0.7, 0.95))
    seed = int(rng.integers(2**31))
    return SceneObject(label, centre, radius, angle, stretch, dark, light, seed)


def _background(rng):
    ends = [_colour(rng, (0.2, 0.8), (0.15, 0.45)), _colour(rng, (0.1, 0.6), (0.75, 1))]
    near, far = rng.permutation(2)
    return Background(
        str(rng.choice(['linear', 'radial', 'horizon'])),
        rng.uniform(-np.pi, np.pi),
        tuple(rng.uniform(0.2, 0.8, 2)),
        ends[near],
        ends[far],
        (rng.uniform(0, 1), rng.uniform(-0.2, 0.5)),
        rng.uniform(0.1, 0.45),
    )


def single_object_scene(rng: np.random.Generator, size: int, label: int) -> Scene:
    """Sample a scene with one large object (40 to 75 % of the side ``size``), as in ImageNet."""
    radius = size * rng.uniform(0.2, 0.375)
    slack = size / 2 - radius  # without rotation the unit frame stays in the image
    centre = tuple(size / 2 + slack * rng.uniform(-0.9, 0.9, 2))
    background = _background(rng)
    objects = (_scene_object(rng, label, centre, radius),)
    return Scene((size, size), background, objects, int(rng.integers(2**31)))


def multi_object_scene(rng: np.random.Generator, size: tuple[int, int]) -> Scene:
    """Sample a scene with two to six objects of random classes, which may overlap.

    Smaller (farther) objects are behind larger ones. ``size`` is (height, width) in pixels.
    """
    height, width = size
    radii = np.sort(rng.uniform(0.13, 0.3, rng.integers(2, 7))) * min(size)
    objects = []
    for radius in radii:
        label = int(rng.integers(len(NAMES)))
        centre = rng.uniform(0.05, 0.95) * width, rng.uniform(0.05, 0.95) * height
        objects.append(_scene_object(rng, label, centre, radius))
    return Scene(size, _background(rng), tuple(objects), int(rng.integers(2**31)))


def _frame(obj):
    """Return the affine map (2, 3) from an object's unit frame to the image."""
    cos, sin = np.cos(obj.angle) * obj.radius, np.sin(obj.angle) * obj.radius
    x, y = obj.centre
    return np.array([[cos * obj.stretch, -sin, x], [sin * obj.stretch, cos, y]])


def _coverage(obj, size):
    """Return the share of every pixel inside an object's outline, (H, W) float32 in [0, 1]."""
    height, width = size
    canvas = np.zeros((height * SUPERSAMPLE, width * SUPERSAMPLE), np.uint8)
    frame = _frame(obj)
    rings = [ring @ frame[:, :2].T + frame[:, 2] for ring in OUTLINES[NAMES[obj.label]]]
    # fillPoly expects the centres of (fine) pixels at integers; 8 bits of fraction.
    fixed = [np.round((ring * SUPERSAMPLE - 0.5) * 256).astype(np.int32) for ring in rings]
    cv2.fillPoly(canvas, fixed, 255, shift=8)
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA) / np.float32(255)


def _visible(scene):
    """Return (object, coverage, mask) for each visible object, from back to front."""
    seen, taken = [], np.zeros(scene.size, bool)
    for obj in reversed(scene.objects):
        coverage = _coverage(obj, scene.size)
        whole = coverage > 0.5
        mask = whole & ~taken
        if mask.sum() > HIDDEN * max(whole.sum(), 16):
            seen.append((obj, coverage, mask))
            taken |= whole
    return seen[::-1]


def _paint_background(background, x, y):
    """Return the colours (H, W, 3) of the background."""
    dx, dy = x - background.centre[0], y - background.centre[1]
    cos, sin = np.cos(background.angle), np.sin(background.angle)
    t = {
        'linear': 0.5 + 0.7 * (dx * cos + dy * sin),
        'radial': 1.3 * np.hypot(dx, dy),
        'horizon': 0.5 + 0.3 * dy + 0.35 * np.tanh(12 * (dy + 0.15 * sin * dx)),
    }[background.kind].clip(0, 1)[..., None]
    return (1 - t) * background.near + t * np.array(background.far)


def draw(scene: Scene, photographs: dict[str, np.ndarray]) -> Drawing:
    """Render a scene with the photographs of ``load_photographs``.

    Equal arguments give equal drawings.
    """
    height, width = scene.size
    y, x = (np.mgrid[:height, :width] + 0.5) / np.array(scene.size)[:, None, None]  # (H, W) each
    image = _paint_background(scene.background, x, y)  # (H, W, 3)
    seen = _visible(scene)
    to_frame = np.array([[2 / PATCH, 0, 1 / PATCH - 1], [0, 2 / PATCH, 1 / PATCH - 1], [0, 0, 1]])
    for obj, coverage, _ in seen:
        patch = surface(NAMES[obj.label], np.random.default_rng(obj.seed), photographs)
        # From pixels of the patch to pixels of the image, whose centres are at integers in OpenCV.
        place = _frame(obj) @ to_frame - [[0, 0, 0.5], [0, 0, 0.5]]
        mix = cv2.warpAffine(patch, place, (width, height), borderMode=cv2.BORDER_REPLICATE)
        look = obj.dark + mix[..., None] * np.subtract(obj.light, obj.dark)
        image += coverage[..., None] * (look - image)
    distance = np.hypot(x - scene.background.lamp[0], y - scene.background.lamp[1])
    image *= 1.1 - scene.background.falloff * distance[..., None]
    image += np.random.default_rng(scene.seed).normal(0, NOISE, (height, width, 1))
    masks = np.array([mask for *_, mask in seen]).reshape(-1, height, width)
    return Drawing(
        (image.clip(0, 1) * 255).round().astype(np.uint8),
        np.array([obj.label for obj, *_ in seen], np.int64),
        masks,
        np.array([cv2.boundingRect(mask.astype(np.uint8)) for mask in masks], np.int64).reshape(
            -1, 4
        ),
    )
