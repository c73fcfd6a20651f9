"""The pictures used, as data: packages, photographs, cut-outs and aerial photographs.

``photographs.csv`` and ``cutouts.csv`` list every picture in the order in which scenes draw from
them. The lists were made once from the packages of Debian 12. Photographs whose difference hashes
differ in at most 24 of 256 bits from an earlier one were left out. Photographs of the same subject
are in the same split. Licences and credits are those of debian/copyright in each package.
"""

import csv
from importlib.resources import files
from pathlib import PurePosixPath
from typing import NamedTuple


class Package(NamedTuple):
    """A package that contains pictures."""

    name: str
    version: str  # the version from which the lists were made
    megabytes: float  # size of the download
    root: str  # folder inside the package to which paths in the lists are relative
    licence: str  # of the pictures used
    contents: str  # what is missing from the data set without the package
    small: bool = True  # downloaded for the small form of the data set
    pip: bool = False  # a wheel; the others are Debian packages


PACKAGES = {
    package.name: package
    for package in (
        Package(
            'gcompris-qt-data',
            '3.1-2',
            44.2,
            'usr/share/gcompris-qt/rcc/',
            'by file: public domain, CC0, CC-BY, CC-BY-SA, GFDL, GPL-2+, GPL-3, GPL-3+',
            '259 photographs of animals, monuments and tools',
        ),
        Package(
            'krank',
            '0.7+dfsg2-4',
            58.1,
            'usr/share/games/krank/levels/',
            'public domain',
            '38 photographs of coral reefs',
            small=False,
        ),
        Package(
            'scratch',
            '1.4.0.6~dfsg1-6.1',
            25.7,
            'usr/share/scratch/Media/Backgrounds/',
            'CC-BY-SA-3.0',
            '52 photographs of places',
        ),
        Package(
            'tuxpaint-stamps-default',
            '2022.06.04-1',
            160.9,
            'usr/share/tuxpaint/stamps/',
            'GPL-2',
            'all cut-outs, and so cls/objects12 and det/photopaste',
            small=False,
        ),
        Package(
            'tuxpaint-data',
            '1:0.9.28-sdl2-1',
            7.9,
            'usr/share/tuxpaint/',
            'GPL-2+',
            '19 photographs of nature',
        ),
        Package(
            'lomiri-wallpapers-16.04',
            '20.04.0-2',
            15.8,
            'usr/share/backgrounds/',
            'by file: CC-BY-4.0, CC-BY-SA-4.0, CC0-1.0',
            '13 large photographs',
        ),
        Package(
            'mate-backgrounds',
            '1.26.0-1',
            46.6,
            'usr/share/backgrounds/mate/',
            'GPL-2+',
            '12 photographs of nature',
            small=False,
        ),
        Package(
            'dataset-fashion-mnist',
            '0.0~git20200523.55506a9-1',
            30.9,
            'usr/share/datasets/fashion-mnist/',
            'MIT',
            'cls/fashion_mnist',
        ),
        Package(
            'deepforest',
            '2.1.0',
            20.6,
            'deepforest/data/',
            'MIT',
            'extra/aerial and det/trees',
            pip=True,
        ),
    )
}
CUTOUTS = 'tuxpaint-stamps-default'
FASHION_MNIST = tuple(
    f'{split}-{kind}-ubyte.gz'
    for split in ('train', 't10k')
    for kind in ('images-idx3', 'labels-idx1')
)

# What the default arguments make of the versions above: images, and boxes if there are any.
SURVEYED = {
    'photos/train': (301,),
    'photos/val': (92,),
    'extra/aerial/train': (2,),
    'extra/aerial/val': (4,),
    'cls/photo12/train': (221,),
    'cls/photo12/val': (77,),
    'cls/objects12/train': (2792,),
    'cls/objects12/val': (938,),
    'det/photopaste/train': (2000, 6746),
    'det/photopaste/val': (500, 1637),
    'det/trees/train': (34, 571),
    'det/trees/val': (9, 277),
    'det/trees/test': (2, 98),
}


class Photograph(NamedTuple):
    """A row of photographs.csv."""

    split: str  # 'train' or 'val'
    label: str  # class in photo12, or empty
    background: str  # 'yes': objects may be pasted on it
    subject: str  # shared by photographs of the same thing, or empty
    package: str
    path: str  # relative to the package's root; inside x.rcc/ it is that of a Qt resource
    licence: str
    credit: str

    @property
    def name(self) -> str:
        """Name of the JPEG in the data set."""
        path = PurePosixPath(self.path)
        return f'{self.package}__{path.parent.name}__{path.stem}.jpg'.replace(' ', '_')


class Cutout(NamedTuple):
    """A row of cutouts.csv: a photographed object with transparent surroundings."""

    split: str  # 'train' or 'val'
    label: str  # class in objects12 and photopaste
    path: str  # relative to the root of the package CUTOUTS

    @property
    def name(self) -> str:
        """Name without a suffix, of images in objects12 and of objects in photopaste."""
        return self.path.removesuffix('.png').replace('/', '-')


class AerialPhotograph(NamedTuple):
    """A photograph in the wheel of deepforest."""

    split: str  # of extra/aerial
    trees: str  # split of det/trees; empty: without annotated boxes, or not used there
    path: str


AERIAL = (
    AerialPhotograph('train', 'train', '2019_YELL_2_528000_4978000_image_crop2.png'),
    AerialPhotograph('val', 'val', '2019_YELL_2_541000_4977000_image_crop.png'),
    AerialPhotograph('train', '', 'AWPE Pigeon Lake 2020 DJI_0005.JPG'),
    AerialPhotograph('val', 'test', 'OSBS_029.png'),
    AerialPhotograph('val', '', 'SOAP_031.png'),
    AerialPhotograph('val', 'test', 'SOAP_061.png'),
)


def load_photographs() -> list[Photograph]:
    """Read photographs.csv."""
    return [Photograph(*row) for row in _read_rows('photographs.csv')]


def load_cutouts() -> list[Cutout]:
    """Read cutouts.csv."""
    return [Cutout(*row) for row in _read_rows('cutouts.csv')]


def _read_rows(name):
    text = (files(__package__) / name).read_text(encoding='utf-8')
    return list(csv.reader(text.splitlines()))[1:]
