"""The twelve classes of the small scenes: an outline and a surface each.

The drawings are this project's own. A third of the surfaces are crops of photographs in the
scikit-image wheel, the others are computed. An object lives in a unit frame, u to the right and v
down, both in [-1, 1]. A surface is a grey image in [0, 1] that mixes the object's two colours, so
a class has a pattern but no colour.
"""

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
    """Read the regions of ``split``, 'train' or 'val'.

    Returns:
        dict: name -> (h, w) float32 in [0, 1], stretched from the 2nd to the 98th percentile.

    Raises:
        UserError: scikit-image is not installed, or lacks its photographs.
    """
    if split not in ('train', 'val'):
        raise ValueError(f"split must be 'train' or 'val', got {split!r}")
    try:
        # The files themselves: skimage.data.*() would download a missing one.
        folder = files('skimage') / 'data'
        encoded = {name: (folder / row[0]).read_bytes() for name, row in PHOTOGRAPHS.items()}
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise UserError(
            f'{error}: the photographs of the surfaces are part of scikit-image. Install it: '
            'pip install scikit-image'
        ) from error
    regions = {}
    for name, (_, turns, *boxes, _) in PHOTOGRAPHS.items():
        pixels = np.frombuffer(encoded[name], np.uint8)
        grey = np.rot90(cv2.imdecode(pixels, cv2.IMREAD_GRAYSCALE), turns)
        x0, y0, x1, y1 = boxes[split == 'val']
        region = grey[y0:y1, x0:x1].astype(np.float32)
        low, high = np.percentile(region, (2, 98))
        regions[name] = np.clip((region - low) / (high - low), 0, 1)
    return regions


# Outlines: closed rings, each (n, 2).


def _curve(radius, n=96):
    """Points at ``radius(angle)``, from angle 0 (right) through v = 1 (below)."""
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([np.cos(t), np.sin(t)], 1) * np.broadcast_to(radius(t), n)[:, None]


def _mirror(right):
    """Complete a right half, given from top to bottom, by its mirror image."""
    return np.concatenate([right, right[::-1] * [-1, 1]])


def _star():
    turn = np.arange(10) * np.pi / 5  # ten corners, the first at the top
    radius = np.tile([1, 0.45], 5)[:, None]
    return np.stack([np.sin(turn), -np.cos(turn)], 1) * radius


def _heart():
    t = np.linspace(0, np.pi, 48)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return _mirror(np.stack([16 * np.sin(t) ** 3, -y - 2.5], 1) / 15)


def _leaf():
    s = np.linspace(0, 1, 32)
    blade = np.stack([0.66 * np.sin(np.pi * s**0.9), 1.6 * s - 1], 1)
    return _mirror(np.concatenate([blade[:-1], [[0.05, 0.58], [0.05, 1]]]))


def _fish():
    s = np.linspace(0, 1, 32)
    back = np.stack([1.5 * s - 1, -0.62 * np.sin(np.pi * s**0.8)], 1)[:-2]
    upper = np.concatenate([back, [[0.95, -0.55], [0.78, 0]]])
    return np.concatenate([upper, upper[::-1] * [1, -1]])


def _cat():
    s = np.linspace(0.1, 1, 32) * np.pi  # the head, from the crown to the chin
    head = np.stack([0.9 * np.sin(s), 0.2 - 0.75 * np.cos(s)], 1)
    ear = [[0.28, -0.5], [0.72, -1], [0.82, -0.12]]
    return _mirror(np.concatenate([ear, head[head[:, 1] > -0.05]]))


def _moon():
    t = np.linspace(0.22, 1.78, 64) * np.pi
    outer = np.stack([np.cos(t), np.sin(t)], 1)
    horn = outer[0, 1]
    v = np.linspace(-horn, horn, 40)[1:-1]  # from the upper horn to the lower one
    inner = np.stack([outer[0, 0] - 0.95 * np.sqrt(1 - (v / horn) ** 2), v], 1)
    return np.concatenate([outer, inner]) + [0.12, 0]


def _tree():
    t = np.linspace(0, 0.94, 40) * np.pi  # a scalloped crown, then half a trunk
    r = 0.62 + 0.1 * np.abs(np.sin(4 * t))
    crown = np.stack([1.15 * r * np.sin(t), -0.3 - r * np.cos(t)], 1)
    return _mirror(np.concatenate([crown, [[0.13, 0.3], [0.17, 1]]]))


def _mug():
    t = np.linspace(-0.5, 0.5, 24) * np.pi
    bow = np.stack([np.cos(t), np.sin(t)], 1)
    handle = np.concatenate([bow * 0.56, bow[::-1] * 0.3]) + [0.44, 0]
    body = np.array([[-0.9, -0.9], [0.5, -0.9], [0.42, 0.9], [-0.82, 0.9]])
    return [np.concatenate([body[:2], handle, body[2:]])]


# Surfaces: u, v (PATCH, PATCH) and rng -> (PATCH, PATCH) in [0, 1].


def _soft(x, width=0.12):
    """A ramp of ``width`` from 0 to 1 around x = 0, which avoids aliasing."""
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


def _facets(u, v, rng):
    return _soft(np.sin(5 * np.arctan2(u, -v)), 0.3)  # a fold along the middle of each arm


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


def _bands(u, v, rng):
    return _soft(np.sin(rng.uniform(9, 12) * v + rng.uniform(0, 6.28)), 0.5)


def _crop(name, region, rng):
    side = rng.integers(*PHOTOGRAPHS[name][-1], endpoint=True)
    top, left = (rng.integers(0, n - side, endpoint=True) for n in region.shape)
    square = region[top : top + side, left : left + side]
    return cv2.resize(square, (PATCH, PATCH), interpolation=cv2.INTER_LINEAR)


_DISC, _HOLE = _curve(lambda t: 1), _curve(lambda t: 0.4)
_HOUSE = np.array(
    [[0, -1], [1, -0.1], [0.8, -0.1], [0.8, 0.95], [-0.8, 0.95], [-0.8, -0.1], [-1, -0.1]]
)
_KITE = np.array([[0, -1], [0.75, -0.2], [0, 1], [-0.75, -0.2]])

# name: (rings, filled by the even-odd rule; surface function or name of a photograph)
CLASSES = {
    'ball': ([_DISC], _wedges),
    'cat': ([_cat()], 'fur'),
    'donut': ([_DISC, _HOLE], _sprinkles),
    'fish': ([_fish()], _scales),
    'heart': ([_heart()], _dots),
    'house': ([_HOUSE], 'brick'),
    'kite': ([_KITE], _checkers),
    'leaf': ([_leaf()], _veins),
    'moon': ([_moon()], 'gravel'),
    'mug': (_mug(), _bands),
    'star': ([_star()], _facets),
    'tree': ([_tree()], 'grass'),
}
_V, _U = np.mgrid[-1 : 1 : PATCH * 1j, -1 : 1 : PATCH * 1j]


def surface(name: str, rng: np.random.Generator, photographs: dict[str, ndarray]) -> ndarray:
    """Draw a sample of a class's surface, (PATCH, PATCH) float32 in [0, 1] over the unit frame.

    Args:
        name (str): A key of ``CLASSES``.
        rng (np.random.Generator): Chooses the crop, or the phase and pitch of the pattern.
        photographs (dict): From :func:`load_photographs`.
    """
    paint = CLASSES[name][1]
    if isinstance(paint, str):
        return _crop(paint, photographs[paint], rng)
    return paint(_U, _V, rng).astype(np.float32)
