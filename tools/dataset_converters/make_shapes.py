"""Generate the scenes of finola_mm.datasets.shapes as an ImageNet folder and a COCO directory.

    python tools/dataset_converters/make_shapes.py --out data/shapes

creates, in one to two minutes on two cores,

    data/shapes/shapes.json                                  the arguments, and a completion marker
    data/shapes/imagenet/{train,val}/<class>/*.jpg           one object each
    data/shapes/coco/{train2017,val2017}/*.jpg               several objects each
    data/shapes/coco/annotations/instances_{train,val}2017.json

The result depends only on the arguments and is reproducible byte for byte, with any number of
workers: each image has its own seed (seed, folder, split, index). If the folder is already
complete, nothing is done, or images are added if more are requested. To resume an interrupted run,
run the same command again. A folder with other content is left unchanged.
"""

import argparse
import functools
import json
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from finola_mm.apis import command_line, int_range, make_folder, progress
from finola_mm.apis.command_line import claim_folder, write_stamp
from finola_mm.datasets.shape_classes import load_photographs
from finola_mm.datasets.shapes import NAMES, draw, multi_object_scene, single_object_scene
from finola_mm.engine import atomic_write
from finola_mm.engine.checkpoints.checkpoint_file import remove_stale_tmp

STAMP = 'shapes.json'
VERSION = 1  # increase if the same arguments produce different images
SPLITS = ('train', 'val')
FOLDERS = ('imagenet', 'coco')
COUNTS = 'train_images', 'val_images', 'train_scenes', 'val_scenes'
SIZES = 48, 1024  # pixels; smaller objects do not show the surface, larger ones blur it
JPEG_QUALITY = 92
CATEGORIES = [  # ids start at 1 and have gaps, as in COCO, to reveal code that uses id - 1 as label
    {'supercategory': 'shape', 'id': 2 * label + 1, 'name': name}
    for label, name in enumerate(NAMES)
]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Generate a small labelled data set, as an ImageNet folder and a COCO directory'
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('data/shapes'),
        help='folder to create; default: %(default)s',
    )
    parser.add_argument('--seed', type=int_range(0), default=0)
    parser.add_argument(
        '--size',
        type=int_range(*SIZES),
        default=160,
        help='side of a single-object image in pixels; the sides of a scene are 1.5 and 1.125 '
        'times as long; default: %(default)s',
    )
    for name, least, default in zip(
        COUNTS, (len(NAMES), len(NAMES), 1, 1), (4000, 500, 4000, 200), strict=True
    ):
        flag = f'--{name.replace("_", "-")}'
        parser.add_argument(
            flag,
            type=int_range(least),
            default=default,
            help='number of images; default: %(default)s',
        )
    parser.add_argument(
        '--workers',
        type=int_range(1),
        default=os.cpu_count(),
        help='number of processes; default: the number of cores, here %(default)s',
    )
    return parser.parse_args(argv)


def write_jpeg(path: Path, image: np.ndarray) -> None:
    """Write an image, (H, W, 3) uint8 RGB."""
    _, data = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, data.tobytes(), sync=False)


def grows(made: dict, request: dict) -> bool:
    """Return whether ``request`` extends the images of ``made``."""
    return made.keys() == request.keys() and all(
        made[name] <= value if name in COUNTS else made[name] == value
        for name, value in request.items()
    )


# ------------------------------------------------------------------------------------- images
photographs = functools.cache(load_photographs)


def _generator(seed, folder, split, index):
    return np.random.default_rng([seed, FOLDERS.index(folder), SPLITS.index(split), index])


def make_object(out: Path, seed: int, size: int, split: str, index: int) -> None:
    """Draw one single-object image, unless an interrupted run has already written it."""
    label = index % len(NAMES)
    path = out / 'imagenet' / split / NAMES[label] / f'{NAMES[label]}_{index:06d}.jpg'
    if not path.exists():
        scene = single_object_scene(_generator(seed, 'imagenet', split, index), size, label)
        write_jpeg(path, draw(scene, photographs(split)).image)


def make_scene(out: Path, seed: int, size: int, split: str, index: int) -> tuple[dict, list[dict]]:
    """Draw one scene; return its COCO image record and its object records (without ids)."""
    rng = _generator(seed, 'coco', split, index)
    sides = size * 9 // 8, size * 3 // 2  # 4:3, in either orientation
    drawing = draw(
        multi_object_scene(rng, sides if rng.random() < 0.7 else sides[::-1]), photographs(split)
    )
    # The two splits have distinct ids, as in COCO.
    image_id = SPLITS.index(split) * 10**6 + index + 1
    name = f'{image_id:012d}.jpg'
    path = out / 'coco' / f'{split}2017' / name
    if not path.exists():
        write_jpeg(path, drawing.image)
    height, width, _ = drawing.image.shape
    record = {'id': image_id, 'file_name': name, 'height': height, 'width': width, 'license': 1}
    return record, [
        {
            'image_id': image_id,
            'category_id': CATEGORIES[label]['id'],
            'iscrowd': 0,
            'area': int(mask.sum()),
            'bbox': box.tolist(),
            'segmentation': polygons(mask),
        }
        for label, mask, box in zip(drawing.labels, drawing.masks, drawing.boxes, strict=True)
    ]


def polygons(mask: np.ndarray) -> list[list[int]]:
    """Trace a mask (H, W) as COCO polygons (x0, y0, x1, y1, ...) that rasterize to this mask.

    COCO uses the union of the polygons, so a hole must be part of a polygon. If there is a hole,
    all rings are joined into one polygon by lines that run to each ring and back, with no area.
    """
    rings = _rings(mask)
    areas = [
        (ring[:, 0] * (np.roll(ring[:, 1], -1) - np.roll(ring[:, 1], 1))).sum() for ring in rings
    ]
    if min(areas) < 0:  # a hole has the opposite orientation
        start = rings[0][:1]
        rings = [np.concatenate([part for ring in rings for part in (ring, ring[:1], start)])]
    return [ring.ravel().tolist() for ring in rings]


def _rings(mask):
    """Return closed chains of pixel edges (n, 2), as x, y, with the mask on their right side."""
    padded = np.pad(mask, 1).astype(np.int8)
    rows, columns = np.diff(padded[:, 1:-1], axis=0), np.diff(padded[1:-1], axis=1)
    ahead = {}  # corner -> the ends of its edges; two if pixels touch diagonally
    for step, (x0, y0), (x1, y1) in (
        (rows > 0, (0, 0), (1, 0)),
        (rows < 0, (1, 0), (0, 0)),
        (columns > 0, (0, 1), (0, 0)),
        (columns < 0, (0, 0), (0, 1)),
    ):
        for y, x in np.argwhere(step).tolist():
            ahead.setdefault((x + x0, y + y0), []).append((x + x1, y + y1))
    rings = []
    while ahead:
        ring = [next(iter(ahead))]
        while ring[-1] in ahead:
            ends = ahead[ring[-1]]
            end = ends.pop()
            if not ends:
                del ahead[ring[-1]]
            ring.append(end)
        ring = np.array(ring[:-1])
        turns = (ring - np.roll(ring, 1, 0) != np.roll(ring, -1, 0) - ring).any(1)
        rings.append(ring[turns])  # corners only
    return rings


# --------------------------------------------------------------------------------------- main
def generate(args: argparse.Namespace, request: dict) -> None:
    """Draw all images that do not exist yet, then write the annotations."""
    common = args.out, args.seed, args.size
    # Here, not in the workers: after a fork, OpenCV would wait for threads that it does not have.
    cv2.setNumThreads(1)
    with ProcessPoolExecutor(args.workers) as pool:

        def run(make, split, count, title):
            jobs = pool.map(functools.partial(make, *common, split), range(count), chunksize=16)
            return list(progress(jobs, f'{split} {title}', count))

        for split, count in zip(SPLITS, (args.train_images, args.val_images), strict=True):
            run(make_object, split, count, 'objects')
        for split, count in zip(SPLITS, (args.train_scenes, args.val_scenes), strict=True):
            records, objects = zip(*run(make_scene, split, count, 'scenes'), strict=True)
            annotations = [{'id': n, **fields} for n, fields in enumerate(sum(objects, []), 1)]
            content = {
                'info': {'description': f'finola_mm shapes, {split}', **request},
                'licenses': [{'id': 1, 'name': 'Apache-2.0', 'url': ''}],
                'images': records,
                'annotations': annotations,
                'categories': CATEGORIES,
            }
            folder = make_folder(args.out / 'coco' / 'annotations')
            text = json.dumps(content, separators=(',', ':'))
            atomic_write(folder / f'instances_{split}2017.json', text.encode())


@command_line
def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    request = {name: value for name, value in vars(args).items() if name not in ('out', 'workers')}
    request['version'] = VERSION
    for split in SPLITS:
        photographs(split)  # reports missing files before anything is written
    if claim_folder(args.out, STAMP, request, extends=grows):
        print(f'{args.out} is complete; nothing to do')
        return
    for folder in args.out.rglob('*/'):  # images that a killed run left incomplete
        remove_stale_tmp(folder)
    generate(args, request)
    write_stamp(args.out, STAMP, request, complete=True)
    print(
        f'{args.out}: {args.train_images} + {args.val_images} objects, '
        f'{args.train_scenes} + {args.val_scenes} scenes, {len(NAMES)} classes'
    )


if __name__ == '__main__':
    main()
