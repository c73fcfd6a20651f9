"""The twelve classes of the small scenes, each with an outline and a surface.

The drawings were made for this project. A third of the surfaces are crops of photographs in the
scikit-image wheel; the others are computed. Object coordinates (the unit frame) are u (right) and
v (down), both in [-1, 1]. A surface is a grey image in [0, 1] that mixes the object's two colours,
so a class has a pattern but no colour.
"""

from collections.abc import Callable
from functools import partial
from importlib.resources import files

import cv2
import numpy as np
from numpy import ndarray

from ..errors import UserError

PATCH = 128  # side of a surface in pixels: about the largest object of the demo

# name: file in skimage/data, quarter turns, (x0, y0, x1, y1) for train and for val, smallest
# and largest side of a crop in pixels. The boxes of train and val do not touch.
PHOTOGRAPHS = {
    'brick': ('brick.png', 1, (0, 0, 512, 300), (0, 328, 512, 512), (130, 180)),
    'gravel': ('gravel.png', 0, (0, 0, 300, 512), (328, 0, 512, 512), (90, 140)),
    'grass': ('grass.png', 0, (0, 0, 300, 512), (328, 0, 512, 512), (120, 180)),
    'fur': ('chelsea.png', 0, (85, 8, 215, 80), (112, 148, 212, 214), (50, 64)),
}


def load_photographs(split: str) -> dict[str, ndarray]:
    """Read the regions (h, w) of ``split``, 'train' or 'val', as float32 in [0, 1].

    The grey levels are stretched from the 2nd to the 98th percentile.

    Raises:
        UserError: scikit-image or its photographs are not installed.
    """
    if split not in ('train', 'val'):
        raise ValueError(f"split must be 'train' or 'val', got {split!r}")
    regions = {}
    for name, (file, turns, *boxes, _) in PHOTOGRAPHS.items():
        try:
            # Read the file directly: skimage.data.*() would download a missing one.
            encoded = np.frombuffer((files('skimage') / 'data' / file).read_bytes(), np.uint8)
        except (ModuleNotFoundError, FileNotFoundError) as error:
            raise UserError(
                f'{error}: the photographs of the surfaces are part of scikit-image. Install it: '
                'pip install scikit-image'
            ) from error
        grey = np.rot90(np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)), turns)
        x0, y0, x1, y1 = boxes[split == 'val']
        region = grey[y0:y1, x0:x1].astype(np.float32)
        low, high = np.percentile(region, (2, 98))
        regions[name] = np.clip((region - low) / (high - low), 0, 1)
    return regions


def _outlines() -> dict[str, list[ndarray]]:
    """Return the closed rings (n, 2) of each class, filled with the even-odd rule."""
    points = partial(np.stack, axis=1)
    join = np.concatenate
    flip = [-1, 1]  # completes a right half, given from top to bottom, with its mirror image
    rings = {}

    t = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    disc = points([np.cos(t), np.sin(t)])
    rings['ball'] = [disc]
    rings['donut'] = [disc, 0.4 * disc]

    s = np.linspace(0.1, 1, 32) * np.pi  # the head, from the crown to the chin
    head = points([0.9 * np.sin(s), 0.2 - 0.75 * np.cos(s)])
    half = join([[[0.28, -0.5], [0.72, -1], [0.82, -0.12]], head[head[:, 1] > -0.05]])
    rings['cat'] = [join([half, half[::-1] * flip])]

    s = np.linspace(0, 1, 32)
    back = points([1.5 * s - 1, -0.62 * np.sin(np.pi * s**0.8)])
    upper = join([back[:-2], [[0.95, -0.55], [0.78, 0]]])
    rings['fish'] = [join([upper, upper[::-1] * [1, -1]])]

    blade = points([0.66 * np.sin(np.pi * s**0.9), 1.6 * s - 1])
    half = join([blade[:-1], [[0.05, 0.58], [0.05, 1]]])
    rings['leaf'] = [join([half, half[::-1] * flip])]

    t = np.linspace(0, np.pi, 48)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    half = points([16 * np.sin(t) ** 3, -y - 2.5]) / 15
    rings['heart'] = [join([half, half[::-1] * flip])]

    half = np.array([[1, -0.1], [0.8, -0.1], [0.8, 0.95]])
    rings['house'] = [join([[[0, -1]], half, half[::-1] * flip])]
    rings['kite'] = [np.array([[0, -1], [0.75, -0.2], [0, 1], [-0.75, -0.2]])]

    t = np.linspace(0.22, 1.78, 64) * np.pi
    outer = points([np.cos(t), np.sin(t)])
    tip, horn = outer[0]
    v = np.linspace(-horn, horn, 40)[1:-1]  # from the upper horn to the lower one
    inner = points([tip - 0.95 * np.sqrt(1 - (v / horn) ** 2), v])
    rings['moon'] = [join([outer, inner]) + [0.12, 0]]

    t = np.linspace(-0.5, 0.5, 24) * np.pi
    bow = points([np.cos(t), np.sin(t)])
    handle = join([bow * 0.56, bow[::-1] * 0.3]) + [0.44, 0]
    rings['mug'] = [join([[[-0.9, -0.9], [0.5, -0.9]], handle, [[0.42, 0.9], [-0.82, 0.9]]])]

    turn = np.arange(10) * np.pi / 5  # ten corners, the first at the top
    rings['star'] = [points([np.sin(turn), -np.cos(turn)]) * np.tile([1, 0.45], 5)[:, None]]

    t = np.linspace(0, 0.94, 40) * np.pi  # a scalloped crown, then half a trunk
    r = 0.62 + 0.1 * np.abs(np.sin(4 * t))
    half = join([points([1.15 * r * np.sin(t), -0.3 - r * np.cos(t)]), [[0.13, 0.3], [0.17, 1]]])
    rings['tree'] = [join([half, half[::-1] * flip])]
    return rings


# Surfaces: u, v (PATCH, PATCH) and rng -> (PATCH, PATCH) in [0, 1].


def _soft(x, width=0.12):
    """Return a ramp of ``width`` from 0 to 1 around x = 0, which avoids aliasing."""
    return np.clip(x / width + 0.5, 0, 1)


def _wedges(u, v, rng):
    twist = rng.uniform(0.6, 1.2) * np.hypot(u, v)
    return _soft(np.sin(3 * (np.arctan2(v, u) + twist) + rng.uniform(0, 6.28)), 0.3)


def _sprinkles(u, v, rng):
    image = np.zeros(u.shape, np.uint8)
    for x, y, turn in rng.uniform(0, 1, (110, 3)) * [PATCH, PATCH, np.pi]:
        dx, dy = 4 * np.cos(turn), 4 * np.sin(turn)
        cv2.line(image, (int(x - dx), int(y - dy)), (int(x + dx), int(y + dy)), 255, 3, cv2.LINE_AA)
    return image / 255


def _dots(u, v, rng):
    k = rng.uniform(3.2, 4.2) * np.pi
    du, dv = rng.uniform(0, 6.28, 2)
    return _soft(np.cos(k * u + du) * np.cos(k * v + dv) - 0.35, 0.3)


def _veins(u, v, rng):
    ribs = np.sin(rng.uniform(13, 17) * (v + 0.9 * np.abs(u)))
    return np.maximum(_soft(ribs - 0.55, 0.5), _soft(0.05 - np.abs(u), 0.05))


def _scales(u, v, rng):
    pitch = rng.uniform(0.22, 0.3)
    row = np.floor(v / pitch)
    best = np.zeros_like(u)  # brightness grows towards the rim of the top scale
    for above in (1, 0):  # a scale covers the row below its own
        along = u / pitch + 0.5 * ((row - above) % 2)
        du, dv = along - np.round(along), v / pitch - row + above - 0.5
        r = np.hypot(du, dv * 0.62)
        best = np.where(r < 0.62, _soft(r - 0.4, 0.35), best)
    return best


def _checkers(u, v, rng):
    k = rng.uniform(2.4, 3.2) * np.pi
    return _soft(np.sin(k * (u + v)) * np.sin(k * (u - v)), 0.4)


OUTLINES = _outlines()
SURFACES: dict[str, str | Callable[[ndarray, ndarray, np.random.Generator], ndarray]] = {
    'ball': _wedges,
    'cat': 'fur',  # a photograph
    'donut': _sprinkles,
    'fish': _scales,
    'heart': _dots,
    'house': 'brick',
    'kite': _checkers,
    'leaf': _veins,
    'moon': 'gravel',
    'mug': lambda u, v, rng: _soft(np.sin(rng.uniform(9, 12) * v + rng.uniform(0, 6.28)), 0.5),
    'star': lambda u, v, rng: _soft(np.sin(5 * np.arctan2(u, -v)), 0.3),  # a fold along each arm
    'tree': 'grass',
}
NAMES = tuple(SURFACES)  # the classes, in the order of the labels
_V, _U = np.mgrid[-1 : 1 : PATCH * 1j, -1 : 1 : PATCH * 1j]


def surface(name: str, rng: np.random.Generator, photographs: dict[str, ndarray]) -> ndarray:
    """Draw a sample of a class's surface, (PATCH, PATCH) float32 in [0, 1] over the unit frame.

    ``rng`` chooses the crop of a photograph, or the phase and pitch of a pattern.
    """
    paint = SURFACES[name]
    if callable(paint):
        return paint(_U, _V, rng).astype(np.float32)
    region = photographs[paint]
    side = rng.integers(*PHOTOGRAPHS[paint][-1], endpoint=True)
    top, left = (rng.integers(0, n - side, endpoint=True) for n in region.shape)
    square = region[top : top + side, left : left + side]
    return cv2.resize(square, (PATCH, PATCH), interpolation=cv2.INTER_LINEAR)
