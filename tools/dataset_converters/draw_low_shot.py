"""Draw a share of a labelled data set, the same number of images of every class, as list files.

    python tools/dataset_converters/draw_low_shot.py data/imagenet/train 1 10

writes data/imagenet/low_shot/train_1pct.txt and train_10pct.txt, which the configs in
configs/classification/low_shot/ read: "path label" on every line, the path relative to SRC, the
label the place of the class folder among the sorted ones, as mmpretrain's CustomDataset counts.

Every class gives n images, n the share of the mean class, rounded, and at least 1: of ImageNet's
1,281,167 images in 1000 classes 13 at 1 % and 128 at 10 %. A class with fewer than n gives all
it has, and is named. What is drawn depends on --seed, the names of the classes and files, and
nothing else; the smaller list is part of the larger one. A list that is there already is never
changed; where it is another one than would be drawn, that is an error.
"""

import argparse
import os
import random
import sys
from pathlib import Path

from mmpretrain.datasets.custom import find_folders, get_samples

from finola_mm.datasets import IMAGE_SUFFIXES

NAMED = 3  # small classes that the report names


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Draw a balanced share of a labelled data set')
    parser.add_argument('src', type=Path, metavar='SRC', help='folder with one folder a class')
    parser.add_argument(
        'percent',
        type=float,
        nargs='+',
        metavar='PERCENT',
        help='share to draw, in %%; one list for each',
    )
    parser.add_argument(
        '--out', type=Path, metavar='DIR', help='where the lists go; default: low_shot/ beside SRC'
    )
    parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
    args = parser.parse_args(argv)
    for percent in args.percent:
        if not 0 < percent < 100:
            parser.error(f'PERCENT must lie between 0 and 100, got {percent:g}')
    return args


def find_classes(src: Path) -> dict[str, list[str]]:
    """class folder -> its images, relative to ``src``; both sorted, in the order of the labels.

    Raises:
        ValueError: ``src`` is no folder, or has no class folder with an image.
    """
    if not src.is_dir():
        raise ValueError(f'{src} is no folder')
    names, labels = find_folders(str(src))
    samples, _ = get_samples(str(src), labels, lambda name: name.lower().endswith(IMAGE_SUFFIXES))
    if not samples:
        raise ValueError(f'{src} holds no folder with images ({", ".join(IMAGE_SUFFIXES)})')
    classes: dict[str, list[str]] = {name: [] for name in names}
    for path, label in samples:
        classes[names[label]].append(path)
    return classes


def draw(classes: dict[str, list[str]], percent: float, seed: int) -> list[list[str]]:
    """The images to take of every class, sorted; fewer than of the others where it has fewer."""
    total = sum(map(len, classes.values()))
    count = max(round(total * percent / 100 / len(classes)), 1)
    taken = []
    for name, images in classes.items():
        # A stream for each class: another class more or less changes no draw of this one.
        order = random.Random(f'{seed} {name}').sample(images, len(images))
        taken.append(sorted(order[:count]))
    return taken


def write_list(path: Path, taken: list[list[str]]) -> bool:
    """Write a list; False: the same one was there already.

    Raises:
        ValueError: another one is there; it is left as it is.
    """
    text = ''.join(f'{image} {label}\n' for label, images in enumerate(taken) for image in images)
    if path.exists():
        if path.read_text(encoding='utf-8') != text:
            raise ValueError(
                f'{path} is there already, and holds another list (another --seed, other images). '
                'It was left as it is; choose another --out, or remove the file'
            )
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.part')
    part.write_text(text, encoding='utf-8')
    part.replace(path)
    return True


def report(path: Path, classes: dict[str, list[str]], taken: list[list[str]], new: bool) -> str:
    """One line on a list: where it is, how many images, which classes gave fewer."""
    count, total = max(map(len, taken)), sum(map(len, classes.values()))
    drawn = sum(map(len, taken))
    text = (
        f'{path}{"" if new else " (there already)"}: {drawn} of {total} images '
        f'({100 * drawn / total:.2f} %), {count} of each of {len(classes)} classes'
    )
    small = [
        f'{name} ({len(images)})'
        for name, images in zip(classes, taken, strict=True)
        if len(images) < count
    ]
    if small:
        more = f' and {len(small) - NAMED} more' if len(small) > NAMED else ''
        text += f'; fewer where there are no more: {", ".join(small[:NAMED])}{more}'
    return text


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    src = Path(os.path.abspath(args.src))  # not resolved: the lists belong beside a link
    out = args.out or src.parent / 'low_shot'
    try:
        classes = find_classes(src)
        for percent in args.percent:
            path = out / f'{src.name}_{percent:g}pct.txt'
            taken = draw(classes, percent, args.seed)
            print(report(path, classes, taken, write_list(path, taken)))
    except (OSError, ValueError) as error:
        sys.exit(f'draw_low_shot: {error}')


if __name__ == '__main__':
    main()
