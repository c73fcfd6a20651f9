"""Hand-drawn boxes of trees in aerial photographs, cut into tiles."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import NamedTuple

TILE = 384  # approximate side of a tile in pixels
SMALLEST = 2  # sides of a box inside a tile must be longer, in pixels
INSIDE = 0.5  # smallest share of a box inside a tile

Corners = tuple[float, float, float, float]  # x0, y0, x1, y1


class Tile(NamedTuple):
    """A part of a photograph with boxes."""

    place: tuple[int, int, int, int]  # x0, y0, x1, y1 in the photograph
    boxes: list[list[float]]  # x, y, width, height in the tile


def read_boxes(annotation: bytes) -> list[Corners]:
    """Read the boxes of an annotation file in Pascal VOC's format."""
    boxes = []
    for box in ElementTree.fromstring(annotation).iter('bndbox'):
        x0, y0, x1, y1 = (float(box.findtext(k, '')) for k in ('xmin', 'ymin', 'xmax', 'ymax'))
        boxes.append((x0, y0, x1, y1))
    return boxes


def tile_boxes(size: tuple[int, int], boxes: list[Corners]) -> Iterator[Tile]:
    """Yield the tiles of a photograph of ``size`` (width, height) that contain boxes.

    Tiles do not overlap. A box is clipped to every tile that contains at least half of it.
    """
    width, height = (length // max(1, round(length / TILE)) for length in size)
    for top in range(0, size[1] - height + 1, height):
        for left in range(0, size[0] - width + 1, width):
            inside = []
            for x0, y0, x1, y1 in boxes:
                a, b = max(x0, left), max(y0, top)
                w, h = min(x1, left + width) - a, min(y1, top + height) - b
                if min(w, h) > SMALLEST and w * h >= INSIDE * (x1 - x0) * (y1 - y0):
                    inside.append([a - left, b - top, w, h])
            if inside:
                yield Tile((left, top, left + width, top + height), inside)
