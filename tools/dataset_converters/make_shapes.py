"""Write the small scenes of finola_mm.datasets.shapes as an ImageNet folder and a COCO directory.

    python tools/dataset_converters/make_shapes.py --out data/shapes

makes, in a minute or two on two cores,

    data/shapes/shapes.json                                  the request, and whether it is done
    data/shapes/imagenet/{train,val}/<class>/*.jpg           one object each
    data/shapes/coco/{train2017,val2017}/*.jpg               several objects each
    data/shapes/coco/annotations/instances_{train,val}2017.json

The same arguments give the same bytes, however many workers: every picture is drawn from its own
seed (seed, folder, split, index). A finished folder is left as it is, or grows where more pictures
are asked for; an unfinished one is continued, and one that holds anything else is never touched.
"""

import argparse
import functools
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from finola_mm.datasets.shape_classes import load_photographs
from finola_mm.datasets.shapes import NAMES, draw, multi_object_scene, single_object_scene

VERSION = 1  # raise it when the same arguments give other pictures
SPLITS = ('train', 'val')
FOLDERS = ('imagenet', 'coco')
COUNTS = 'train_images', 'val_images', 'train_scenes', 'val_scenes'
SIZES = 48, 1024  # pixels; smaller objects show no surface, larger ones a blurred one
JPEG_QUALITY = 92
CATEGORIES = [  # COCO's ids begin at 1 and have gaps: code that takes id - 1 for a class must fail
    {'supercategory': 'shape', 'id': 2 * label + 1, 'name': name}
    for label, name in enumerate(NAMES)
]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Make a small, labelled data set out of nothing, as an ImageNet folder and a '
        'COCO directory.'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('data/shapes'), help='folder to make; default: %(default)s'
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--size',
        type=int,
        default=160,
        help='side of a single-object picture in pixels; a scene is 1.5 times as '
        'long and 1.125 times as wide; default: %(default)s',
    )
    parser.add_argument('--train-images', type=int, default=4000, help='default: %(default)s')
    parser.add_argument('--val-images', type=int, default=500, help='default: %(default)s')
    parser.add_argument('--train-scenes', type=int, default=4000, help='default: %(default)s')
    parser.add_argument('--val-scenes', type=int, default=200, help='default: %(default)s')
    parser.add_argument(
        '--workers',
        type=int,
        default=os.cpu_count(),
        help='processes; default: the number of cores, here %(default)s',
    )
    args = parser.parse_args(argv)
    least = {
        'seed': 0,
        'size': SIZES[0],
        'train_images': len(NAMES),
        'val_images': len(NAMES),
        'train_scenes': 1,
        'val_scenes': 1,
        'workers': 1,
    }
    for name, value in least.items():
        if getattr(args, name) < value:
            parser.error(
                f'--{name.replace("_", "-")} must be at least {value}, got {getattr(args, name)}'
            )
    if args.size > SIZES[1]:
        parser.error(f'--size must be at most {SIZES[1]}, got {args.size}')
    return args


# ------------------------------------------------------------------------------------- files
def write(path: Path, data: bytes) -> None:
    """Write all of ``data`` or, if interrupted, nothing under this name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.part')
    part.write_bytes(data)
    try:
        part.replace(path)
    except FileNotFoundError:
        if not path.exists():  # else a second run beside this one was first, with the same bytes
            raise


def write_json(path: Path, content: dict) -> None:
    write(path, json.dumps(content, separators=(',', ':')).encode())


def write_jpeg(path: Path, image: np.ndarray) -> None:
    """image: (H, W, 3) uint8, RGB."""
    _, data = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    write(path, data.tobytes())


def claim(out: Path, request: dict) -> bool:
    """Make ``out`` ours. Return whether it is finished already.

    Raises:
        ValueError: If it holds anything that was not made for this request.
    """
    stamp = out / 'shapes.json'
    if stamp.is_file():
        found = json.loads(stamp.read_text())
        made = found.get('request') if isinstance(found, dict) else None
        if made == request:
            return found['complete']
        if not isinstance(made, dict) or not grows(made, request):
            raise ValueError(
                f'{out} was not made for these arguments: {stamp.name} holds {found}, '
                f'not {request}. Choose another --out, or remove the folder.'
            )
        write_json(stamp, {'request': request, 'complete': False})
        return False
    ours = {f'.{stamp.name}.part'}  # of a run that ended right at its start
    if out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} - ours):
        raise ValueError(
            f'{out} exists and holds something else than this generator makes. '
            'Nothing was written; choose another --out.'
        )
    write_json(stamp, {'request': request, 'complete': False})
    return False


def grows(made: dict, request: dict) -> bool:
    """Whether ``request`` is for the same pictures and more of them."""
    return made.keys() == request.keys() and all(
        made[name] <= value if name in COUNTS else made[name] == value
        for name, value in request.items()
    )


# ------------------------------------------------------------------------------------ pictures
photographs = functools.cache(load_photographs)


def _generator(seed, folder, split, index):
    return np.random.default_rng([seed, FOLDERS.index(folder), SPLITS.index(split), index])


def make_portrait(out: Path, seed: int, size: int, split: str, index: int) -> None:
    label = index % len(NAMES)
    path = out / 'imagenet' / split / NAMES[label] / f'{NAMES[label]}_{index:06d}.jpg'
    if not path.exists():  # there after an interrupted run
        scene = single_object_scene(_generator(seed, 'imagenet', split, index), size, label)
        write_jpeg(path, draw(scene, photographs(split)).image)


def make_scene(out: Path, seed: int, size: int, split: str, index: int) -> tuple[dict, list[dict]]:
    """Draw one scene. Return its COCO record and those of its objects (without ids)."""
    rng = _generator(seed, 'coco', split, index)
    sides = size * 9 // 8, size * 3 // 2  # 4:3, in either orientation
    drawing = draw(
        multi_object_scene(rng, sides if rng.random() < 0.7 else sides[::-1]), photographs(split)
    )
    # One numbering for both splits, as in COCO: an id names a picture wherever it lies.
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
    """The edges of the pixels of a mask, as COCO polygons that rasterise to exactly this mask.

    COCO's list of polygons is a union, so a hole has to be part of a polygon: if there is any, all
    rings are strung on one line that runs to each of them and back. Traversed twice, the line
    encloses nothing.

    Args:
        mask (np.ndarray): (H, W) bool.

    Returns:
        list[list[int]]: x0, y0, x1, y1, ... of each polygon.
    """
    rings = _rings(mask)
    areas = [
        (ring[:, 0] * (np.roll(ring[:, 1], -1) - np.roll(ring[:, 1], 1))).sum() for ring in rings
    ]
    if min(areas) < 0:  # a hole runs the other way round
        start = rings[0][:1]
        rings = [np.concatenate([part for ring in rings for part in (ring, ring[:1], start)])]
    return [ring.ravel().tolist() for ring in rings]


def _rings(mask):
    """Closed chains of pixel edges with the mask on the right-hand side. -> [(n, 2) x, y]"""
    padded = np.pad(mask, 1).astype(np.int8)
    rows, columns = np.diff(padded[:, 1:-1], axis=0), np.diff(padded[1:-1], axis=1)
    ahead = {}  # corner -> the corners that an edge leads to; two where pixels touch diagonally
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
    """Draw everything that is not there yet; the annotations come last."""
    common = args.out, args.seed, args.size
    with ProcessPoolExecutor(args.workers, initializer=cv2.setNumThreads, initargs=(1,)) as pool:

        def run(make, split, count, what):
            jobs = pool.map(functools.partial(make, *common, split), range(count), chunksize=16)
            return list(track(jobs, f'{split} {what}', count))

        for split, count in zip(SPLITS, (args.train_images, args.val_images), strict=True):
            run(make_portrait, split, count, 'objects')
        for split, count in zip(SPLITS, (args.train_scenes, args.val_scenes), strict=True):
            records, objects = zip(*run(make_scene, split, count, 'scenes'), strict=True)
            annotations = [{'id': n, **fields} for n, fields in enumerate(sum(objects, []), 1)]
            write_json(
                args.out / 'coco' / 'annotations' / f'instances_{split}2017.json',
                {
                    'info': {'description': f'finola_mm shapes, {split}', **request},
                    'licenses': [{'id': 1, 'name': 'Apache-2.0', 'url': ''}],
                    'images': records,
                    'annotations': annotations,
                    'categories': CATEGORIES,
                },
            )


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    request = {name: value for name, value in vars(args).items() if name not in ('out', 'workers')}
    request['version'] = VERSION
    try:
        for split in SPLITS:
            photographs(split)  # here, so that a missing file shows before anything is written
        if claim(args.out, request):
            print(f'{args.out} is complete: nothing to do.')
            return
        generate(args, request)
        write_json(args.out / 'shapes.json', {'request': request, 'complete': True})
    except (ValueError, OSError) as error:
        sys.exit(f'make_shapes: {error}')
    except KeyboardInterrupt:
        sys.exit(f'make_shapes: stopped; the same command goes on with {args.out}')
    print(
        f'{args.out}: {args.train_images} + {args.val_images} objects, '
        f'{args.train_scenes} + {args.val_scenes} scenes, {len(NAMES)} classes.'
    )


if __name__ == '__main__':
    main()
