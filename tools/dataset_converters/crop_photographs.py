"""Cut the photographs inside the scikit-image wheel into small images, in folds.

    python tools/dataset_converters/crop_photographs.py --out data/photographs

makes, in a few seconds,

    data/photographs/photographs.json                 the request, and whether it is done
    data/photographs/fold{0,1,2}/train/<photograph>/  random crops of every size
    data/photographs/fold{0,1,2}/val/<photograph>/    squares that tile the photograph

A fold's val/ holds whole photographs that its train/ has nothing of; the two pictures of the stereo
pair are in one fold. The three val/ together hold every photograph once. Left out are the wheel's
drawings, scans and texts, and what is smaller than 300 pixels. The same arguments give the same
bytes. A finished folder is left as it is, and one that holds anything else is never touched.
"""

import argparse
import json
import sys
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
from mmengine.utils import track_iter_progress

# One line a fold: each has people or animals, things, a surface, and something seen from far away.
FOLDS = (
    ('astronaut.png', 'brick.png', 'coins.png', 'hubble_deep_field.jpg', 'moon.png'),
    ('camera.png', 'cell.png', 'chelsea.png', 'gravel.png', 'retina.jpg', 'rocket.jpg'),
    (
        'clock_motion.png',
        'coffee.png',
        'grass.png',
        'ihc.png',
        'motorcycle_left.png',
        'motorcycle_right.png',
    ),
)
TILES = 3  # squares along the shorter side
LEAST = 128  # pixels of a photograph, the least side of a random crop


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Small images from the photographs of a wheel')
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('data/photographs'),
        help='folder to make; default: %(default)s',
    )
    parser.add_argument('--size', type=int, default=96, help='side in pixels; default: %(default)s')
    parser.add_argument(
        '--crops',
        type=int,
        default=160,
        help='random crops of each photograph; default: %(default)s',
    )
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args(argv)
    for name, least in (('size', 8), ('crops', 1), ('seed', 0)):
        if getattr(args, name) < least:
            parser.error(f'--{name} must be at least {least}, got {getattr(args, name)}')
    return args


def read(name: str) -> np.ndarray:
    """A photograph, (H, W, 3) uint8 BGR. The file itself: skimage.data would fetch a missing one.

    Raises:
        FileNotFoundError: if scikit-image is not installed, or without it.
    """
    try:
        data = (files('skimage') / 'data' / name).read_bytes()
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise FileNotFoundError(
            f'{error}: the photographs lie in the wheel of scikit-image; '
            '`pip install scikit-image==0.25.2`'
        ) from error
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def random_crops(image: np.ndarray, count: int, size: int, rng: np.random.Generator):
    """Squares of every side from LEAST up, evenly in its logarithm; (size, size, 3) each."""
    height, width, _ = image.shape
    sides = np.exp(rng.uniform(np.log(LEAST), np.log(min(height, width)), count)).astype(int)
    for side in sides:
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        yield resize(image[top : top + side, left : left + side], size)


def tiles(image: np.ndarray, size: int):
    """TILES squares along the shorter side, as many as fit along the other, in the middle."""
    height, width, _ = image.shape
    side = min(height, width) // TILES
    rows, columns = height // side, width // side
    top, left = (height - rows * side) // 2, (width - columns * side) // 2
    for y in range(top, top + rows * side, side):
        for x in range(left, left + columns * side, side):
            yield resize(image[y : y + side, x : x + side], size)


def resize(image: np.ndarray, size: int) -> np.ndarray:
    smaller = image.shape[0] > size
    return cv2.resize(
        image, (size, size), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    )


def save(folder: Path, images) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        path = folder / f'{i:04d}.png'
        if not cv2.imwrite(str(path), image):  # it does not say why
            raise OSError(f'{path} could not be written; is the disk full?')


def claim(out: Path, request: dict) -> bool:
    """Make ``out`` ours; return whether it is finished already.

    Raises:
        ValueError: if it holds anything that was not made for this request.
    """
    stamp = out / 'photographs.json'
    if stamp.is_file():
        found = json.loads(stamp.read_text())
        if found.get('request') != request:
            raise ValueError(
                f'{out} was made for {found.get("request")}, not {request}; choose '
                'another --out, or remove the folder'
            )
        return found['complete']
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(
            f'{out} exists and holds something else than this script makes; nothing '
            'was written, choose another --out'
        )
    write_stamp(out, request, complete=False)
    return False


def write_stamp(out: Path, request: dict, *, complete: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    part = out / '.photographs.json.part'
    part.write_text(json.dumps({'request': request, 'complete': complete}))
    part.replace(out / 'photographs.json')


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    request = dict(size=args.size, crops=args.crops, seed=args.seed, version=1)
    names = [name for fold in FOLDS for name in fold]
    try:
        if claim(args.out, request):
            print(f'{args.out} is complete: nothing to do.')
            return
        for number, name in enumerate(track_iter_progress(names)):
            image, rng = read(name), np.random.default_rng([args.seed, number])
            crops = list(random_crops(image, args.crops, args.size, rng))
            for k, fold in enumerate(FOLDS):
                part = ('val', tiles(image, args.size)) if name in fold else ('train', crops)
                save(args.out / f'fold{k}' / part[0] / Path(name).stem, part[1])
        write_stamp(args.out, request, complete=True)
    except (ValueError, OSError) as error:
        sys.exit(f'crop_photographs: {error}')
    print(f'\n{args.out}: {len(names)} photographs in {len(FOLDS)} folds')


if __name__ == '__main__':
    main()
