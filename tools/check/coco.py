"""Look through annotation files in COCO's format and every one of their images.

    python tools/check/coco.py configs/det/detr_mf_dec522.py
    python tools/check/coco.py FILE.json FOLDER_OF_THE_IMAGES

The first form takes files, folders and class names from the config; the second takes all classes of
the file, and prints the line that names them in a config. tools/train.py makes the same checks
before it starts, but looks at 100 images only. The exit status is 1 if anything is wrong.

Of each image the head is read: that it is there, and is as large as annotated. --decode reads every
pixel, which finds files that are cut off.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from rich.progress import track

from finola_mm.apis import CfgOptions, load_config
from finola_mm.datasets.validation import (
    CocoData,
    check_image,
    find_coco,
    find_problems,
    read_annotations,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Look through COCO annotations and images')
    parser.add_argument('source', help='config (.py) or annotation file (.json)')
    parser.add_argument('folder', nargs='?', help='the images of an annotation file')
    parser.add_argument(
        '--splits',
        nargs='+',
        choices=['train', 'val', 'test'],
        default=['train', 'val'],
        help='of a config; default: train val',
    )
    parser.add_argument('--decode', action='store_true', help='read every pixel of every image')
    parser.add_argument(
        '--show', type=int, default=20, help='wrong images that are named; default: %(default)s'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        help='settings of a config to change, key=value; nested: a.b=1; lists: a="[1,2]"',
    )
    args = parser.parse_args(argv)
    if (args.folder is None) == args.source.endswith('.json'):
        parser.error('expected a config, or an annotation file (.json) and its folder of images')
    return args


def find_data(args: argparse.Namespace) -> list[CocoData]:
    """What is to be looked through."""
    if args.folder is not None:
        if not Path(args.folder).is_dir():
            raise FileNotFoundError(f'there is no folder of images {args.folder}')
        content = read_annotations(args.source)
        classes = tuple(category['name'] for category in content['categories'])
        return [CocoData(Path(args.source), Path(args.folder), classes, False)]
    cfg = load_config(args.source, options=args.cfg_options)
    found = list(dict.fromkeys(data for split in args.splits for data in find_coco(cfg, split)))
    if not found:
        raise ValueError(f'{args.source} names no local COCO file for {", ".join(args.splits)}')
    return found


def print_contents(content: dict[str, list[dict]], classes: Sequence[str]) -> None:
    """How much there is of what."""
    annotations, images = content['annotations'], content['images']
    names = {category['id']: category['name'] for category in content['categories']}
    objects = Counter(names.get(a['category_id']) for a in annotations)
    shown_in = Counter(
        names.get(category)
        for category, _ in {(a['category_id'], a['image_id']) for a in annotations}
    )
    empty = len(images) - len({a['image_id'] for a in annotations})
    crowds = sum(bool(a['iscrowd']) for a in annotations)
    print(
        f'  {len(images)} images, {empty} of them without objects; {len(annotations)} objects, '
        f'{crowds} of them crowds'
    )
    width = max(map(len, classes), default=0)
    print(f'  {"class":{width}}{"objects":>10}{"images":>10}')
    for name in classes:
        print(f'  {name:{width}}{objects[name]:10}{shown_in[name]:10}')


def find_bad_images(content: dict[str, list[dict]], folder: Path, *, decode: bool) -> list[str]:
    """A line for each image file that is not as annotated."""
    lines = []
    for record in track(content['images'], 'images'):
        line = check_image(record, folder)
        if line is None and decode:
            line = decoding_error(folder / record['file_name'])
        if line:
            lines.append(line)
    return lines


def decoding_error(path: Path) -> str | None:
    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:  # each format has its own way to fail
        return f'{path} cannot be decoded ({error})'
    return None


def check(data: CocoData, args: argparse.Namespace) -> bool:
    """Print all about one file. -> whether all is well"""
    content = read_annotations(data.file)
    problems = list(find_problems(content, data.classes))
    print(data.file)
    print_contents(content, data.classes)
    bad = find_bad_images(content, data.folder, decode=args.decode)
    for problem in problems:
        print(f'  {"WRONG" if problem.fatal else "note"}: {problem.text}')
    for line in bad[: args.show]:
        print(f'  WRONG: {line}')
    if len(bad) > args.show:
        print(f'  WRONG: and {len(bad) - args.show} more images (--show)')
    well = not bad and not any(problem.fatal for problem in problems)
    print('  nothing is wrong' if well else '  see the lines above that begin with WRONG')
    if args.folder is not None:
        print(f'  in a config: metainfo=dict(classes={data.classes!r})')
        print(f'  in a copy of configs/det/own_data.py: classes = {data.classes!r}')
    return well


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        well = [check(data, args) for data in find_data(args)]
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f'check_coco: {error}') from None
    raise SystemExit(0 if all(well) else 1)


if __name__ == '__main__':
    main()
