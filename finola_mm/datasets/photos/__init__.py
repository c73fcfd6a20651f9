"""Photographs inside Debian packages and a wheel: what they are, and the data sets made of them."""

from .archives import read_deb, read_rcc, read_wheel
from .catalogue import (
    AERIAL,
    PACKAGES,
    SURVEYED,
    AerialPhotograph,
    Cutout,
    Package,
    Photograph,
    load_cutouts,
    load_photographs,
)
from .composites import Backgrounds, Composite, PastedObject, draw_object, draw_scene, encode_rle
from .downloads import download, find_download, read_files, version_of
from .pictures import decode_picture, encode_jpeg, extract_cutout, shrink, to_rgb
from .trees import Tile, read_boxes, tile_boxes

__all__ = [
    'AERIAL',
    'PACKAGES',
    'SURVEYED',
    'AerialPhotograph',
    'Backgrounds',
    'Composite',
    'Cutout',
    'Package',
    'PastedObject',
    'Photograph',
    'Tile',
    'decode_picture',
    'download',
    'draw_object',
    'draw_scene',
    'encode_jpeg',
    'encode_rle',
    'extract_cutout',
    'find_download',
    'load_cutouts',
    'load_photographs',
    'read_boxes',
    'read_deb',
    'read_files',
    'read_rcc',
    'read_wheel',
    'shrink',
    'tile_boxes',
    'to_rgb',
    'version_of',
]
