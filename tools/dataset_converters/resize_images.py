"""Copy a tree of images and resize large ones, so that training decodes fewer pixels.

    python tools/dataset_converters/resize_images.py data/imagenet data/imagenet320

If the shorter side of an image exceeds --short-side, the image is resized to it (Pillow's
antialiased bicubic filter), upright and with 8 bits per channel, and written as JPEG. Other images
are copied byte for byte. Names and folders are kept, so that lists of files remain valid: a resized
x.png then contains a JPEG, as in ImageNet itself, and is decoded by its content. Linked folders
are copied, hidden and other files are not. Unreadable images are reported and left out. To resume
an interrupted run, run the same command again.

Resizing changes the training data. Small crops lose resolution: with a square image and
--short-side 320, crops are enlarged to 256 x 256 pixels if they cover less than
(256 / 320)^2 = 64 % of the area. In addition, each resized image is compressed twice.
"""

import argparse
import functools
import os
import signal
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from finola_mm.apis import command_line, int_range, progress
from finola_mm.apis.command_line import claim_folder
from finola_mm.datasets import list_images
from finola_mm.datasets.decoding import decode
from finola_mm.engine import atomic_write
from finola_mm.errors import UserError

STAMP = 'resize_images.json'  # records the arguments in DST


class Outcome(NamedTuple):
    """The result for one file."""

    action: str  # 'resized', 'copied', 'existing' or 'left out'
    bytes_before: int = 0
    bytes_after: int = 0
    error: str = ''


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Copy a tree of images and resize large ones')
    parser.add_argument('src', type=Path, metavar='SRC', help='folder with images at any depth')
    parser.add_argument('dst', type=Path, metavar='DST', help='folder to create')
    parser.add_argument(
        '--short-side',
        type=int_range(1),
        default=320,
        help='maximum length of the shorter side in pixels; default: %(default)s',
    )
    parser.add_argument(
        '--quality', type=int_range(1, 100), default=95, help='JPEG quality; default: %(default)s'
    )
    parser.add_argument(
        '--workers',
        type=int_range(1),
        default=os.cpu_count(),
        help='number of processes; default: the number of cores, here %(default)s',
    )
    return parser.parse_args(argv)


def convert(src: Path, dst: Path, short_side: int, quality: int, name: str) -> Outcome:
    """Resize or copy one image."""
    source, target = src / name, dst / name
    try:
        if target.exists():
            return Outcome('existing', source.stat().st_size, target.stat().st_size)
        before = source.read_bytes()
        image, _ = decode(before, str(source))
    except (OSError, ValueError, cv2.error) as error:
        return Outcome('left out', error=str(error))
    large = min(image.shape[:2]) > short_side
    after = shrink(image, short_side, quality) if large else before
    target.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(target, after, sync=False)
    return Outcome('resized' if large else 'copied', len(before), len(after))


def shrink(image: np.ndarray, short_side: int, quality: int) -> bytes:
    """Resize (h, w, 3) uint8 BGR to a shorter side of ``short_side``; return a JPEG."""
    height, width = image.shape[:2]
    scale = short_side / min(height, width)
    small = Image.fromarray(image).resize(  # each channel separately: their order is irrelevant
        (round(width * scale), round(height * scale)), Image.Resampling.BICUBIC
    )
    _, data = cv2.imencode('.jpg', np.asarray(small), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the main process handles Ctrl-C


def convert_all(args: argparse.Namespace, names: list[str]) -> str:
    """Convert all images; return the report."""
    job = functools.partial(convert, args.src, args.dst, args.short_side, args.quality)
    counts = Counter(dict.fromkeys(('resized', 'copied', 'existing', 'left out'), 0))
    before = after = 0
    # Here, not in the workers: after a fork, OpenCV would wait for threads that it does not have.
    cv2.setNumThreads(1)
    pool = ProcessPoolExecutor(args.workers, initializer=start_worker)
    try:
        for outcome in progress(pool.map(job, names, chunksize=16), 'images', len(names)):
            counts[outcome.action] += 1
            before += outcome.bytes_before
            after += outcome.bytes_after
            if outcome.error:
                print(f'left out: {outcome.error}', file=sys.stderr)
    except BrokenProcessPool as error:
        raise UserError(
            'a worker process was killed, possibly because it ran out of memory. To resume, '
            f'repeat the command with fewer --workers than {args.workers}'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
    parts = ', '.join(f'{count} {action}' for action, count in counts.items())
    return (
        f'{args.dst}: {len(names)} images: {parts}; '
        f'{before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after'
    )


@command_line
def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if not args.src.is_dir():
        raise UserError(f'the folder {args.src} does not exist')
    names = list_images(args.src)
    inner, outer = args.dst.resolve(), args.src.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise UserError(f'SRC {args.src} and DST {args.dst} must not contain each other')
    request = dict(short_side=args.short_side, quality=args.quality, source=str(outer))
    claim_folder(args.dst, STAMP, request)
    print(convert_all(args, names))


if __name__ == '__main__':
    main()
