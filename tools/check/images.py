"""Decode every image of a data set and report those that cannot be used for training.

    python tools/check/images.py data/imagenet --out bad.csv
    python tools/check/images.py data/coco/annotations/instances_val2017.json data/coco/val2017

The first form checks all images below a folder, with or without class folders. The second checks
the images listed in a COCO file, including their existence and annotated size (tools/check/coco.py
also checks the annotations). The decoder is the one used in training. The exit status is 1 if any
image is bad. Training replaces bad images up to a maximum share (max_bad_share); an evaluation
aborts on the first bad image. Images of more than 8 bits per channel with an implausible range of
values are listed and counted separately: they can be used, but are probably too dark or too bright.
"""

import argparse
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2

from finola_mm.apis import check_out, command_line, int_range, progress, write_csv
from finola_mm.datasets import list_images
from finola_mm.datasets.decoding import decode
from finola_mm.datasets.validation import check_image, read_annotations
from finola_mm.errors import UserError


class BadImage(NamedTuple):
    """A row of the report."""

    path: str
    bytes: int | None  # None: the file does not exist
    reason: str
    usable: bool = False  # only its range of values is implausible


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Decode every image of a data set')
    parser.add_argument('source', help='folder of images, or annotation file (.json)')
    parser.add_argument('folder', nargs='?', help='folder with the images of an annotation file')
    parser.add_argument(
        '--processes',
        type=int_range(1),
        default=os.cpu_count(),
        help='number of processes; default: the number of cores, here %(default)s',
    )
    parser.add_argument(
        '--full-scale',
        type=float,
        help='value of white in images of more than 8 bits per channel, as full_scale of the '
        'loader in the config; default: found for each image',
    )
    parser.add_argument('--out', help='write the images listed to this CSV: path, bytes, reason')
    parser.add_argument(
        '--show', type=int, default=20, help='number of images listed; default: %(default)s'
    )
    args = parser.parse_args(argv)
    if (args.folder is not None) != args.source.endswith('.json'):
        parser.error('expected a folder, or an annotation file (.json) and its image folder')
    return args


def find_records(args: argparse.Namespace) -> tuple[Path, list[dict]]:
    """Return the folder and one record per image, with the size if annotated."""
    if args.folder is not None:
        folder, records = Path(args.folder), read_annotations(args.source)['images']
    else:
        folder = Path(args.source)
        if folder.is_file():
            raise UserError(f'{folder} is a file; specify the folder that contains the images')
        if not folder.is_dir():
            raise UserError(f'the folder {folder} does not exist')
        records = [dict(file_name=name) for name in list_images(folder)]
    if not records:
        raise UserError(f'{args.source} must list images; found none')
    return folder, records


def check_record(record: dict, folder: Path, full_scale: float | None = None) -> BadImage | None:
    """Check one image."""
    path = folder / record['file_name']
    try:
        data = path.read_bytes()
    except OSError as error:
        return BadImage(str(path), None, f'cannot be read ({error.strerror})')
    try:
        _, problem = decode(data, str(path), full_scale=full_scale)
    except Exception as error:  # decoders raise different types
        message = ' '.join(str(error).removeprefix(f'{path} is ').split())
        reason = f'cannot be decoded ({message or type(error).__name__})'
        return BadImage(str(path), len(data), reason if data else 'is empty')
    line = check_image(record, folder) if 'width' in record else None
    if line:
        return BadImage(str(path), len(data), line.removeprefix(f'{path} '))
    return BadImage(str(path), len(data), problem, usable=True) if problem else None


def find_bad_images(
    folder: Path, records: list[dict], processes: int, full_scale: float | None = None
) -> Iterator[BadImage]:
    """Yield the bad and the implausible images in the order of the records."""
    check = partial(check_record, folder=folder, full_scale=full_scale)
    # Here, not in the workers: after a fork, OpenCV would wait for threads that it does not have.
    cv2.setNumThreads(1)
    with ProcessPoolExecutor(processes, initializer=start_worker) as pool:
        checked = pool.map(check, records, chunksize=16)
        yield from filter(None, progress(checked, 'images', len(records)))


def start_worker() -> None:
    cv2.setLogLevel(0)  # OpenCV's messages are in the report


@command_line
def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    folder, records = find_records(args)
    if args.out:
        check_out(args.out)
    listed = list(find_bad_images(folder, records, args.processes, args.full_scale))
    for image in listed[: args.show]:
        print(f'{image.path} ({image.bytes} bytes) {image.reason}')
    if len(listed) > args.show:
        print(f'and {len(listed) - args.show} more; see --show and --out')
    bad = sum(not image.usable for image in listed)
    if len(listed) > bad:
        print(f'{len(listed) - bad} of {len(records)} images have an implausible range of values')
    print(f'{bad} of {len(records)} images are bad ({bad / len(records):.2%})')
    if args.out:
        fields = BadImage._fields[:-1]
        write_csv(
            args.out, [{key: getattr(image, key) for key in fields} for image in listed], fields
        )
    if bad:
        raise SystemExit(1)


if __name__ == '__main__':
    main()
