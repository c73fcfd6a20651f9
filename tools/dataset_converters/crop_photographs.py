"""Crop the photographs of the scikit-image wheel into small images, divided into folds.

    python tools/dataset_converters/crop_photographs.py --out data/photographs

creates, within seconds,

    data/photographs/photographs.json                 the arguments, and a completion marker
    data/photographs/fold{0,1,2}/train/<photograph>/  random crops of different sizes
    data/photographs/fold{0,1,2}/val/<photograph>/    square tiles of the photograph

The val/ folder of a fold covers whole photographs, none of which has crops in its train/ folder;
both images of the stereo pair are in the same fold. Each photograph is in the val/ folder of
exactly one fold. Drawings, scans, texts and images below 300 pixels are not used. The result
depends only on the arguments and is reproducible byte for byte. If the folder is already complete,
nothing is done; a folder with other content is left unchanged.
"""

import argparse
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np

from finola_mm.apis import command_line, int_range, progress
from finola_mm.apis.command_line import claim_folder, write_stamp
from finola_mm.errors import UserError

STAMP = 'photographs.json'
# One line per fold. Each contains people or animals, objects, a surface and a distant scene.
FOLDS = (
    'astronaut.png brick.png coins.png hubble_deep_field.jpg moon.png',
    'camera.png cell.png chelsea.png gravel.png retina.jpg rocket.jpg',
    'clock_motion.png coffee.png grass.png ihc.png motorcycle_left.png motorcycle_right.png',
)
TILES = 3  # number of tiles along the shorter side
MIN_CROP = 128  # minimum side of a random crop, in pixels of the photograph


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Crop the photographs of the scikit-image wheel')
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('data/photographs'),
        help='folder to create; default: %(default)s',
    )
    parser.add_argument(
        '--size',
        type=int_range(8),
        default=96,
        help='side of an image in pixels; default: %(default)s',
    )
    parser.add_argument(
        '--crops',
        type=int_range(1),
        default=160,
        help='random crops per photograph; default: %(default)s',
    )
    parser.add_argument('--seed', type=int_range(0), default=0)
    return parser.parse_args(argv)


def read(name: str) -> np.ndarray:
    """Read a photograph, (H, W, 3) uint8 BGR, from the wheel; skimage.data could download it."""
    try:
        data = (files('skimage') / 'data' / name).read_bytes()
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise UserError(
            f'the photographs are read from the scikit-image wheel ({error}); install it with '
            '`pip install scikit-image==0.25.2`'
        ) from error
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def random_crops(
    image: np.ndarray, count: int, size: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield square crops (size, size, 3); sides are log-uniform and at least MIN_CROP."""
    height, width, _ = image.shape
    sides = np.exp(rng.uniform(np.log(MIN_CROP), np.log(min(height, width)), count)).astype(int)
    for side in sides:
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        yield resize(image[top : top + side, left : left + side], size)


def tiles(image: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield square tiles: TILES along the shorter side, as many as fit along the longer one."""
    height, width, _ = image.shape
    side = min(height, width) // TILES
    rows, columns = height // side, width // side
    top, left = (height - rows * side) // 2, (width - columns * side) // 2
    for y in range(top, top + rows * side, side):
        for x in range(left, left + columns * side, side):
            yield resize(image[y : y + side, x : x + side], size)


def resize(image: np.ndarray, size: int) -> np.ndarray:
    interpolation = cv2.INTER_AREA if image.shape[0] > size else cv2.INTER_CUBIC
    return cv2.resize(image, (size, size), interpolation=interpolation)


def save(folder: Path, images: Iterable[np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        path = folder / f'{i:04d}.png'
        if not cv2.imwrite(str(path), image):  # OpenCV gives no reason
            raise UserError(f'{path} cannot be written; check the free space and the permissions')


@command_line
def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    request = dict(size=args.size, crops=args.crops, seed=args.seed, version=1)
    if claim_folder(args.out, STAMP, request):
        print(f'{args.out} is complete; nothing to do')
        return
    folds = [fold.split() for fold in FOLDS]
    names = sum(folds, [])
    for number, name in enumerate(progress(names, 'photographs')):
        image, rng = read(name), np.random.default_rng([args.seed, number])
        crops = list(random_crops(image, args.crops, args.size, rng))
        for k, fold in enumerate(folds):
            part = ('val', tiles(image, args.size)) if name in fold else ('train', crops)
            save(args.out / f'fold{k}' / part[0] / Path(name).stem, part[1])
    write_stamp(args.out, STAMP, request, complete=True)
    print(f'{args.out}: {len(names)} photographs in {len(folds)} folds')


if __name__ == '__main__':
    main()
