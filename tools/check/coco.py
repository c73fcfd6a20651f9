"""Check COCO annotation files and their images.

    python tools/check/coco.py configs/det/detr_mf_dec522.py
    python tools/check/coco.py FILE.json FOLDER_OF_THE_IMAGES

The first form reads files, folders and class names from the config. The second uses all classes of
the file and prints the line that sets them in a config. tools/train.py performs the same checks at
startup, but on 100 images only. The exit status is 1 if there are errors.

Each image must exist and, as the loader in training reads it, have the annotated size. Without
--decode, the size is read from the header of JPEG and PNG files. With --decode, every image is
decoded, which also detects truncated files.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mmcv.transforms import BaseTransform

from finola_mm.apis import add_cfg_options, command_line, load_config, progress
from finola_mm.datasets.validation import (
    CocoData,
    check_image,
    find_coco,
    find_problems,
    read_annotations,
)
from finola_mm.errors import UserError


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Check COCO annotations and their images')
    parser.add_argument('source', help='config (.py) or annotation file (.json)')
    parser.add_argument('folder', nargs='?', help='folder with the images of an annotation file')
    parser.add_argument(
        '--splits',
        nargs='+',
        choices=['train', 'val', 'test'],
        default=['train', 'val'],
        help='splits of the config to check; default: train val',
    )
    parser.add_argument('--decode', action='store_true', help='read every pixel of every image')
    parser.add_argument(
        '--show', type=int, default=20, help='number of bad images printed; default: %(default)s'
    )
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    if (args.folder is None) == args.source.endswith('.json'):
        parser.error('expected a config, or an annotation file (.json) and its image folder')
    return args


def find_data(args: argparse.Namespace) -> list[CocoData]:
    """Return the annotation files to check."""
    if args.folder is not None:
        if not Path(args.folder).is_dir():
            raise UserError(f'the image folder {args.folder} does not exist')
        content = read_annotations(args.source)
        classes = tuple(category['name'] for category in content['categories'])
        return [CocoData(Path(args.source), Path(args.folder), classes)]
    cfg = load_config(args.source, options=args.cfg_options)
    # Splits may share a file; their loaders are distinct objects.
    data = {data[:-1]: data for split in args.splits for data in find_coco(cfg, split)}
    found = list(data.values())
    if not found:
        raise UserError(
            f'{args.source} has no local COCO file for {", ".join(args.splits)}; choose the '
            'config of a detector, or other --splits'
        )
    return found


def print_contents(content: dict[str, list[dict]], classes: Sequence[str]) -> None:
    """Print the numbers of images and objects, in total and by class."""
    annotations, images = content['annotations'], content['images']
    names = {category['id']: category['name'] for category in content['categories']}
    objects = Counter(names.get(a['category_id']) for a in annotations)
    pairs = {(a['category_id'], a['image_id']) for a in annotations}
    images_with = Counter(names.get(category) for category, _ in pairs)
    empty = len(images) - len({a['image_id'] for a in annotations})
    crowds = sum(bool(a['iscrowd']) for a in annotations)
    print(
        f'  {len(images)} images, {empty} of them without objects; {len(annotations)} objects, '
        f'{crowds} of them crowds'
    )
    width = max(map(len, classes), default=0)
    print(f'  {"class":{width}}{"objects":>10}{"images":>10}')
    for name in classes:
        print(f'  {name:{width}}{objects[name]:10}{images_with[name]:10}')


def find_bad_images(content: dict[str, list[dict]], data: CocoData, *, decode: bool) -> list[str]:
    """Return one line for each image file that differs from its annotation."""
    lines = []
    for record in progress(content['images'], 'images'):
        line = check_image(record, data.folder, data.load)
        if line is None and decode:
            line = decoding_error(data.folder / record['file_name'], data.load)
        if line:
            lines.append(line)
    return lines


def decoding_error(path: Path, load: BaseTransform) -> str | None:
    try:
        load(dict(img_path=str(path)))
    except Exception as error:  # loaders raise different types
        return f'{path} cannot be decoded ({error})'
    return None


def check(data: CocoData, args: argparse.Namespace) -> bool:
    """Print the report on one file; return whether it has no errors."""
    content = read_annotations(data.file)
    problems = [
        *data.problems,
        *find_problems(content, data.classes, labelled=data.labelled, min_size=data.min_size),
    ]
    print(data.file)
    print_contents(content, data.classes)
    bad = find_bad_images(content, data, decode=args.decode)
    for problem in problems:
        print(f'  {"WRONG" if problem.fatal else "note"}: {problem.text}')
    for line in bad[: args.show]:
        print(f'  WRONG: {line}')
    if len(bad) > args.show:
        print(f'  WRONG: and {len(bad) - args.show} more images (--show)')
    ok = not bad and not any(problem.fatal for problem in problems)
    print('  no errors' if ok else '  see the lines above that begin with WRONG')
    if args.folder is not None:
        print(f'  in a config: metainfo=dict(classes={data.classes!r})')
        print(f'  in a copy of configs/det/own_data.py: classes = {data.classes!r}')
    return ok


@command_line
def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if not all([check(data, args) for data in find_data(args)]):
        raise SystemExit(1)


if __name__ == '__main__':
    main()
