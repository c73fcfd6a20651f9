"""Small pictures in place of those in the packages, for make_photos.py without a network."""

import functools
import importlib.util
import io
from pathlib import Path

import numpy as np
from PIL import Image

from finola_mm.datasets.photos import PACKAGES, load_cutouts, load_photographs

CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')


def first(pictures, count=1):
    """Keep a few pictures of each split and class."""
    kept = {}
    for picture in pictures:
        kept.setdefault((picture.split, picture.label), []).append(picture)
    return [picture for group in kept.values() for picture in group[:count]]


def photographs():
    """One photograph of each split and class."""
    return first(load_photographs())


def cutouts():
    """Two cut-outs of each split and class."""
    return first(load_cutouts(), 2)


def voc(boxes):
    """An annotation file in Pascal VOC's format, of boxes x0, y0, x1, y1."""
    objects = [
        ''.join(f'<{name}>{value}</{name}>' for name, value in zip(CORNERS, box, strict=True))
        for box in boxes
    ]
    parts = [f'<object><name>Tree</name><bndbox>{text}</bndbox></object>' for text in objects]
    return f'<annotation>{"".join(parts)}</annotation>'.encode()


def download(package, folder):
    """Stands for ``photos.download``: a file of the right name without content."""
    version = package.version.replace(':', '%3a')
    name = f'{package.name}-{version}-py3.whl' if package.pip else f'{package.name}_{version}_a.deb'
    file = folder / name
    file.touch()
    return file


def read_files(package, file, paths):
    """Stands for ``photos.read_files``: a picture, as a function of its path."""
    assert PACKAGES[package.name] is package and file.is_file()
    return {path: content(path) for path in paths}


@functools.cache
def content(path):
    rng = np.random.default_rng(list(path.encode()))
    if path.endswith('.gz'):
        return path.encode()
    if path.endswith('.xml'):
        return voc([(10 * i, 5 * i, 10 * i + 20, 5 * i + 25) for i in range(10)])
    if '/' in path and path.endswith('.png'):
        return encode(cutout(rng))
    height, width = rng.integers(190, 380, 2)
    small = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((int(width), int(height)), Image.Resampling.BILINEAR)
    return encode(image)


def cutout(rng):
    """An opaque ellipse of one colour in a transparent margin."""
    height, width = rng.integers(45, 80, 2)
    y, x = np.mgrid[-1.2 : 1.2 : height * 1j, -1.2 : 1.2 : width * 1j]
    pixels = np.empty((height, width, 4), np.uint8)
    pixels[..., :3] = rng.integers(0, 256, 3)
    pixels[..., 3] = 255 * (x**2 + y**2 < 1)
    return Image.fromarray(pixels)


def encode(image):
    stream = io.BytesIO()
    image.save(stream, 'PNG')
    return stream.getvalue()


def load_tool():
    """Load make_photos.py, with pictures from here and few scenes in its tiny form."""
    path = Path(__file__).parents[2] / 'tools' / 'dataset_converters' / 'make_photos.py'
    spec = importlib.util.spec_from_file_location('make_photos', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.download, tool.read_files = download, read_files
    tool.load_photographs, tool.load_cutouts = photographs, cutouts
    tool.TINY = tool.TINY._replace(
        objects=dict(train=1, val=1), scenes=dict(train=8, val=4), fashion_mnist=True
    )
    return tool
