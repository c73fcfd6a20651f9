"""Sample class-balanced subsets of a labelled data set and write them as list files.

    python tools/dataset_converters/draw_low_shot.py data/imagenet/train 1 10

writes data/imagenet/low_shot/train_1pct.txt and train_10pct.txt, which are read by the configs in
configs/classification/low_shot/. Each line is "path label": the path is relative to SRC; the label
is the one that training gives the class folder: its index in sorted order.

The number of images per class is PERCENT of the mean class size, rounded, and at least 1: for the
1,281,167 images and 1000 classes of ImageNet, 13 at 1 % and 128 at 10 %. A class with fewer images
contributes all of them and is reported. The sample depends only on --seed and on the names of the
classes and files; a smaller list is a subset of a larger one. An existing list is never changed; if
it differs from the new list, the tool reports an error.
"""

import argparse
import itertools
import os
import random
import re
from pathlib import Path

from finola_mm.apis import command_line, make_folder
from finola_mm.datasets.image_folder import ImageFolder
from finola_mm.engine import atomic_write
from finola_mm.errors import UserError, list_names


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Sample class-balanced subsets of a data set')
    parser.add_argument('src', type=Path, metavar='SRC', help='folder with one folder per class')
    parser.add_argument(
        'percent',
        type=float,
        nargs='+',
        metavar='PERCENT',
        help='share of the images in %%; one list for each',
    )
    parser.add_argument(
        '--out',
        type=Path,
        metavar='DIR',
        help='folder for the lists; default: low_shot/ next to SRC',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of the sample; default: %(default)s'
    )
    args = parser.parse_args(argv)
    for percent in args.percent:
        if not 0 < percent < 100:
            parser.error(f'PERCENT must be between 0 and 100, got {percent:g}')
    return args


def find_classes(src: Path) -> dict[str, list[str]]:
    """Return the images of each class folder, relative to ``src``, in the order of the labels."""
    if not src.is_dir():
        raise UserError(f'the folder {src} does not exist')
    data = ImageFolder(data_root=str(src))
    classes: dict[str, list[str]] = {name: [] for name in data.CLASSES}
    for i in range(len(data)):
        sample = data.get_data_info(i)
        classes[data.CLASSES[sample['gt_label']]].append(os.path.relpath(sample['img_path'], src))
    return classes


def draw(classes: dict[str, list[str]], percent: float, seed: int) -> list[list[str]]:
    """Sample the images of each class, sorted; a small class contributes all of its images."""
    total = sum(map(len, classes.values()))
    count = max(round(total * percent / 100 / len(classes)), 1)
    drawn = []
    for name, images in classes.items():
        # One random stream per class: adding a class does not change the samples of others.
        stream = random.Random(f'{seed} {name}'.encode(errors='surrogateescape'))
        order = stream.sample(images, len(images))
        drawn.append(sorted(order[:count]))
    return drawn


def write_list(path: Path, drawn: list[list[str]]) -> bool:
    """Write a list; return False if the same list already exists."""
    for image in itertools.chain(*drawn):
        # mmpretrain reads a list line by line, as UTF-8, and strips spaces.
        if image != image.lstrip() or re.search('[\n\r\ud800-\udfff]', image):
            raise UserError(
                f'the name {image!r} cannot be written to the list {path}: it begins with a space, '
                'contains a line break, or is not UTF-8. Rename the file or folder.'
            )
    text = ''.join(f'{image} {label}\n' for label, images in enumerate(drawn) for image in images)
    if not path.exists():
        make_folder(path.parent)
        atomic_write(path, text.encode())
        return True
    if path.read_text(encoding='utf-8') != text:
        raise UserError(
            f'{path} already exists and differs from the new list: it was written with another '
            '--seed or from other images. It is left unchanged; choose another --out or delete it'
        )
    return False


def report(path: Path, classes: dict[str, list[str]], drawn: list[list[str]], new: bool) -> str:
    """Describe a list in one line: its path, its number of images, and smaller classes."""
    count, total = max(map(len, drawn)), sum(map(len, classes.values()))
    number = sum(map(len, drawn))
    text = (
        f'{path}{"" if new else " (exists)"}: {number} of {total} images '
        f'({100 * number / total:.2f} %), {count} from each of {len(classes)} classes'
    )
    small = [f'{name} ({len(images)})' for name, images in classes.items() if len(images) < count]
    return f'{text}; fewer from {list_names(small)}' if small else text


@command_line
def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    src = Path(os.path.abspath(args.src))  # not resolve(): the lists belong next to a link
    out = args.out or src.parent / 'low_shot'
    classes = find_classes(src)
    for percent in args.percent:
        path = out / f'{src.name}_{percent:g}pct.txt'
        drawn = draw(classes, percent, args.seed)
        print(report(path, classes, drawn, write_list(path, drawn)))


if __name__ == '__main__':
    main()
