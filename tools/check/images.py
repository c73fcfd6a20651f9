"""Decode every image of a data set in full and name those that cannot be trained on.

    python tools/check/images.py data/imagenet --out bad.csv
    python tools/check/images.py data/coco/annotations/instances_val2017.json data/coco/val2017

The first form takes all images below a folder, in class folders or not; the second those that a
COCO file names, which also have to be there and as large as annotated (tools/check/coco.py
looks at the annotations too). The decoder is that of training. The exit status is 1 if any image
is bad. Training replaces bad images up to a share of them, an evaluation ends at the first.
"""

import argparse
import csv
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
from mmengine.fileio import list_dir_or_file
from rich.progress import track

from finola_mm.datasets import IMAGE_SUFFIXES
from finola_mm.datasets.load_random_resized_crop import decode
from finola_mm.datasets.validation import check_image, read_annotations
from finola_mm.errors import UserError


class BadImage(NamedTuple):
    """A row of the report."""

    path: str
    bytes: int | None  # None: it is not there
    reason: str


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Decode every image of a data set')
    parser.add_argument('source', help='folder of images, or annotation file (.json)')
    parser.add_argument('folder', nargs='?', help='the images of an annotation file')
    parser.add_argument(
        '--processes', type=int, default=os.cpu_count(), help='default: one for each core'
    )
    parser.add_argument('--out', help='write the bad images to this CSV file: path, bytes, reason')
    parser.add_argument(
        '--show', type=int, default=20, help='bad images that are printed; default: %(default)s'
    )
    args = parser.parse_args(argv)
    if (args.folder is not None) != args.source.endswith('.json'):
        parser.error('expected a folder, or an annotation file (.json) and its folder of images')
    if args.processes < 1:
        parser.error(f'--processes {args.processes}: at least 1 is needed')
    return args


def find_records(args: argparse.Namespace) -> tuple[Path, list[dict]]:
    """The folder and a record for each image, with its size where it is known."""
    if args.folder is not None:
        return Path(args.folder), read_annotations(args.source)['images']
    if not Path(args.source).is_dir():
        raise FileNotFoundError(f'there is no folder {args.source}')
    # As mmpretrain's CustomDataset finds them, links too.
    names = list_dir_or_file(args.source, list_dir=False, recursive=True)
    names = sorted(name for name in names if name.lower().endswith(IMAGE_SUFFIXES))
    return Path(args.source), [dict(file_name=name) for name in names]


def find_fault(record: dict, folder: Path) -> BadImage | None:
    """What is wrong with one image."""
    path = folder / record['file_name']
    try:
        data = path.read_bytes()
    except OSError as error:
        return BadImage(str(path), None, f'cannot be read ({error.strerror})')
    try:
        decode(data, str(path))
    except Exception as error:  # each format has its own way to fail
        said = ' '.join(str(error).removeprefix(f'{path} is ').split())
        reason = f'cannot be decoded ({said or type(error).__name__})'
        return BadImage(str(path), len(data), 'is empty' if not data else reason)
    line = check_image(record, folder) if 'width' in record else None
    return BadImage(str(path), len(data), line.removeprefix(f'{path} ')) if line else None


def find_faults(folder: Path, records: list[dict], processes: int) -> Iterator[BadImage]:
    """The bad images in order of the records, with a progress bar."""
    with ProcessPoolExecutor(processes, initializer=keep_quiet) as pool:
        found = pool.map(partial(find_fault, folder=folder), records, chunksize=16)
        yield from filter(None, track(found, 'images', total=len(records)))


def keep_quiet() -> None:
    """OpenCV prints what is also in the report; several processes share the cores."""
    cv2.setLogLevel(0)
    cv2.setNumThreads(1)


def check_writable(file: str) -> None:
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    open(file, 'a').close()  # what is in it stays until there is a new report


def write_report(file: str, faults: list[BadImage]) -> None:
    with open(file, 'w', newline='') as opened:
        csv.writer(opened).writerows([BadImage._fields, *faults])


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        faults = check(args)
    except (OSError, UserError) as error:
        raise SystemExit(f'check_images: {error}') from None
    raise SystemExit(1 if faults else 0)


def check(args: argparse.Namespace) -> list[BadImage]:
    """Print and write down the bad images."""
    folder, records = find_records(args)
    if not records:
        kinds = ', '.join(IMAGE_SUFFIXES)
        raise SystemExit(f'check_images: {args.source} holds no image ({kinds})')
    if args.out:
        check_writable(args.out)  # now, not after hours of decoding
    faults = list(find_faults(folder, records, args.processes))
    for fault in faults[: args.show]:
        print(f'{fault.path} ({fault.bytes} bytes) {fault.reason}')
    if len(faults) > args.show:
        print(f'and {len(faults) - args.show} more (--show, --out)')
    print(f'{len(faults)} of {len(records)} images are bad ({len(faults) / len(records):.2%})')
    if args.out:
        write_report(args.out, faults)
    return faults


if __name__ == '__main__':
    main()
