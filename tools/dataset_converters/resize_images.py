"""Copy a tree of images with every large one made smaller, so that training decodes fewer pixels.

    python tools/dataset_converters/resize_images.py data/imagenet data/imagenet320

An image whose shorter side is longer than --short-side is resized to it (Pillow's antialiased
bicubic filter), with EXIF rotation applied, and written as JPEG; any other one is copied byte by
byte. Names and folders stay as they are, so that lists of files stay valid: a resized x.png then
holds a JPEG, as in ImageNet itself, and is read by its content. Files of other kinds are not
copied. Broken images are named and left out. Stopped, the same command goes on where it was.

This changes what a model sees. Crops of small regions lose resolution: of a square picture, at
--short-side 320 and crops of 256 x 256 pixels, all those below (256 / 320)^2 = 64 % of the area
are enlarged from fewer pixels than they would have been. And every image is compressed twice.
"""

import argparse
import functools
import json
import os
import platform
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from finola_mm.datasets import IMAGE_SUFFIXES
from finola_mm.datasets.load_random_resized_crop import decode

STAMP = 'resize_images.json'  # in DST: what it was made for


class Outcome(NamedTuple):
    """What became of one file; ``done`` is 'resized', 'copied', 'there already' or 'left out'."""

    done: str
    bytes_before: int = 0
    bytes_after: int = 0
    error: str = ''


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Copy a tree of images; large ones are resized once instead of in every epoch.'
    )
    parser.add_argument('src', type=Path, metavar='SRC', help='folder with images at any depth')
    parser.add_argument('dst', type=Path, metavar='DST', help='folder to make')
    parser.add_argument(
        '--short-side',
        type=int,
        default=320,
        help='largest length of the shorter side in pixels; default: %(default)s',
    )
    parser.add_argument(
        '--quality', type=int, default=95, help='of JPEG, 1 to 100; default: %(default)s'
    )
    parser.add_argument(
        '--workers',
        type=int,
        default=os.cpu_count(),
        help='processes; default: the number of cores, here %(default)s',
    )
    args = parser.parse_args(argv)
    for name in ('short_side', 'quality', 'workers'):
        if getattr(args, name) < 1:
            parser.error(
                f'--{name.replace("_", "-")} must be at least 1, got {getattr(args, name)}'
            )
    if args.quality > 100:
        parser.error(f'--quality must be at most 100, got {args.quality}')
    return args


def list_images(src: Path) -> list[str]:
    """Paths of all images below ``src``, relative to it, sorted."""
    return sorted(
        os.path.relpath(os.path.join(folder, name), src)
        for folder, _, names in os.walk(src, followlinks=True)
        for name in names
        if name.lower().endswith(IMAGE_SUFFIXES)
    )


def claim(src: Path, dst: Path, request: dict) -> None:
    """Make ``dst`` ours.

    Raises:
        ValueError: If one folder lies in the other, or ``dst`` was not made for this request.
    """
    inner, outer = dst.resolve(), src.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise ValueError(f'{dst} and {src} lie in one another; choose a DST beside SRC')
    stamp = dst / STAMP
    if stamp.is_file():
        found = json.loads(stamp.read_text())
        if found != request:
            raise ValueError(
                f'{dst} was made for {found}, not for {request}; choose another DST, '
                'or remove the folder'
            )
    elif dst.exists() and any(dst.iterdir()):
        raise ValueError(
            f'{dst} holds something else than this tool makes. Nothing was written; '
            'choose another DST'
        )
    else:
        write(stamp, json.dumps(request).encode())


def write(path: Path, data: bytes) -> None:
    """Write all of ``data`` or, if interrupted, nothing under this name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two machines may work on one DST, each with a process of the same number.
    part = path.with_name(f'.{path.name}.{platform.node()}.{os.getpid()}.part')
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)  # of a full disk, say
        raise


def convert(src: Path, dst: Path, short_side: int, quality: int, name: str) -> Outcome:
    """Resize or copy one image. An image that cannot be read is left out."""
    source, target = src / name, dst / name
    try:
        if target.exists():
            return Outcome('there already', source.stat().st_size, target.stat().st_size)
        before = source.read_bytes()
        image = decode(before, str(source))
    except (OSError, ValueError, cv2.error) as error:
        return Outcome('left out', error=str(error))
    after = shrink(image, short_side, quality) if min(image.shape[:2]) > short_side else before
    write(target, after)
    return Outcome('copied' if after is before else 'resized', len(before), len(after))


def shrink(image: np.ndarray, short_side: int, quality: int) -> bytes:
    """(h, w, 3) uint8, BGR -> JPEG whose shorter side is ``short_side``."""
    height, width = image.shape[:2]
    scale = short_side / min(height, width)
    small = Image.fromarray(image).resize(  # a filter on each channel: their order does not matter
        (round(width * scale), round(height * scale)), Image.Resampling.BICUBIC
    )
    _, data = cv2.imencode('.jpg', np.asarray(small), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def show_progress(outcomes, total: int):
    """Yield ``outcomes``; each second (each minute in a log file) say how far they are."""
    live = sys.stderr.isatty()
    start = shown = time.monotonic()
    for count, outcome in enumerate(outcomes, 1):
        now = time.monotonic()
        if now - shown >= (1 if live else 60):
            shown, rate = now, count / (now - start)
            left = (total - count) / rate
            print(
                f'{count} of {total} images, {rate:.0f} images/s, '
                f'{left // 60:.0f} min {left % 60:.0f} s left ',
                file=sys.stderr,
                flush=True,
                end='\r' if live else '\n',
            )
        yield outcome
    if live:
        print(file=sys.stderr)


def start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; only the first one answers
    cv2.setNumThreads(1)


def run(args: argparse.Namespace, names: list[str]) -> str:
    """Convert all images. -> the report"""
    job = functools.partial(convert, args.src, args.dst, args.short_side, args.quality)
    counts = dict.fromkeys(('resized', 'copied', 'there already', 'left out'), 0)
    before = after = 0
    pool = ProcessPoolExecutor(args.workers, initializer=start_worker)
    try:
        for outcome in show_progress(pool.map(job, names, chunksize=16), len(names)):
            counts[outcome.done] += 1
            before += outcome.bytes_before
            after += outcome.bytes_after
            if outcome.error:
                print(f'left out: {outcome.error}', file=sys.stderr)
    finally:
        pool.shutdown(cancel_futures=True)
    parts = ', '.join(f'{count} {done}' for done, count in counts.items())
    return (
        f'{args.dst}: {len(names)} images: {parts}; '
        f'{before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after.'
    )


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        if not args.src.is_dir():
            raise ValueError(f'{args.src} is no folder')
        names = list_images(args.src)
        if not names:
            raise ValueError(f'{args.src} holds no image ({", ".join(IMAGE_SUFFIXES)})')
        claim(
            args.src,
            args.dst,
            {
                'short_side': args.short_side,
                'quality': args.quality,
                'source': str(args.src.resolve()),
            },
        )
        print(run(args, names))
    except ValueError as error:
        sys.exit(f'resize_images: {error}')
    except OSError as error:  # no space left, not writable
        sys.exit(f'resize_images: {error}. Once that is mended the same command goes on.')
    except BrokenProcessPool:
        sys.exit(
            'resize_images: a worker process was killed, perhaps for want of memory. The same '
            f'command goes on; fewer than --workers {args.workers} need less.'
        )
    except KeyboardInterrupt:
        sys.exit(f'resize_images: stopped; the same command goes on with {args.dst}')


if __name__ == '__main__':
    main()
