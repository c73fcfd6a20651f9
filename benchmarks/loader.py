"""Measure how many images per second one core loads and augments for pre-training.

    python benchmarks/loader.py

Prints two tables for three loaders: mmpretrain's pipeline (load, random resized crop by Pillow,
flip), the same with finola_mm.LoadRandomResizedCrop, and the latter on images resized once by
tools/dataset_converters/resize_images.py. The images are JPEGs of ImageNet's usual size and of a
camera's, made in a temporary folder from the photographs in the scikit-image wheel, with film grain
that brings the files to ImageNet's 110 kB.

One process, one thread, files in the page cache. Times are CPU times, which depend little on other
work on the machine. The loaders alternate, and the tables give medians over the repeats.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import PIL
import torch
from machine import processor
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS
from PIL import Image

import finola_mm.selfsup  # noqa: F401

RESIZE_IMAGES = Path(__file__).parents[1] / 'tools' / 'dataset_converters' / 'resize_images.py'
PHOTOGRAPHS = (
    'astronaut.png',
    'coffee.png',
    'chelsea.png',
    'rocket.jpg',
    'motorcycle_left.png',
    'retina.jpg',
    'hubble_deep_field.jpg',
)
SIZES = {'usual': (500, 375), 'camera': (1600, 1200)}  # width, height
GRAIN = 6  # grey levels, standard deviation
CROP = dict(scale=256, crop_ratio_range=(0.2, 1.0), interpolation='bicubic')
MMPRETRAIN = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', backend='pillow', **CROP),
]
OURS = [dict(type='finola_mm.LoadRandomResizedCrop', **CROP)]
REST = [
    dict(type='RandomFlip', prob=0.5),
    dict(type='finola_mm.RandomBlock', patch_size=16),
    dict(type='PackInputs', meta_keys=('sample_idx', 'img_path', 'block_offset')),
]


def make_images(folder, size, count, rng):
    """Write crops of the photographs, of 75 to 100 % of their size, half of them mirrored."""
    folder.mkdir(parents=True)
    for index in range(count):
        name = PHOTOGRAPHS[index % len(PHOTOGRAPHS)]
        photograph = Image.open(files('skimage') / 'data' / name).convert('RGB')
        share = rng.uniform(0.75, 1) * min(np.divide(photograph.size, size))
        width, height = (int(side * share) for side in size)
        left = rng.integers(photograph.width - width + 1)
        top = rng.integers(photograph.height - height + 1)
        image = photograph.resize(
            size, Image.Resampling.LANCZOS, box=(left, top, left + width, top + height)
        )
        pixels = np.asarray(image)[:, :: rng.choice((-1, 1))]
        pixels = pixels + rng.normal(0, GRAIN, (*pixels.shape[:2], 1))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(
            folder / f'{index:04d}.jpg', quality=95
        )


def mean_kilobytes(folder):
    return np.mean([path.stat().st_size for path in folder.glob('*.jpg')]) / 1e3


def build(folder, pipeline):
    return DATASETS.build(
        dict(
            type='mmpretrain.CustomDataset',
            data_root=str(folder),
            with_label=False,
            pipeline=pipeline,
        )
    )


def seconds_per_image(dataset, seed):
    np.random.seed(seed)
    start = time.process_time()
    for index in range(len(dataset)):
        dataset[index]
    return (time.process_time() - start) / len(dataset)


def split(dataset, seed):
    """Seconds per image of each transform, by name."""
    np.random.seed(seed)
    names = ['look-up', *(type(step).__name__ for step in dataset.pipeline.transforms)]
    seconds = np.zeros(len(names))
    for index in range(len(dataset)):
        clock = [time.process_time()]
        results = dataset.get_data_info(index)
        clock.append(time.process_time())
        for step in dataset.pipeline.transforms:
            results = step(results)
            clock.append(time.process_time())
        seconds += np.diff(clock) / len(dataset)
    return dict(zip(names, seconds, strict=True))


def measure(folder, args):
    """Seconds per image of each repeat, by loader; the same for each transform."""
    small = folder.with_name(folder.name + ' resized')
    subprocess.run(
        [sys.executable, RESIZE_IMAGES, folder, small, '--workers', '1'],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    loaders = {
        'mmpretrain': build(folder, MMPRETRAIN + REST),
        'ours': build(folder, OURS + REST),
        f'ours, resized once ({mean_kilobytes(small):.0f} kB)': build(small, OURS + REST),
    }
    whole = {name: [] for name in loaders}
    steps = {name: [] for name in loaders}
    for repeat in range(-1, args.repeats):  # one more for warm-up
        for name, dataset in loaders.items():
            seconds = seconds_per_image(dataset, args.seed + repeat + 1)
            parts = split(dataset, args.seed + repeat + 1)
            if repeat >= 0:
                whole[name].append(seconds)
                steps[name].append(parts)
    return whole, steps


def print_rates(what, whole):
    reference = np.array(whole['mmpretrain'])
    for name, seconds in whole.items():
        ratio = np.median(reference / seconds)  # of the same repeat
        median = np.median(seconds)
        print(
            f'| {what} | {name} | {1 / median:.0f} | {1e3 * median:.2f} | '
            f'{1e3 * min(seconds):.2f} to {1e3 * max(seconds):.2f} | {ratio:.2f} |'
        )


def print_steps(what, steps):
    for name, repeats in steps.items():
        parts = ', '.join(
            f'{part} {1e3 * np.median([r[part] for r in repeats]):.2f}' for part in repeats[0]
        )
        print(f'| {what} | {name} | {parts} |')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--images',
        type=int,
        default=70,
        help='of the usual size; a seventh as many of the large one; default: %(default)s',
    )
    parser.add_argument('--repeats', type=int, default=7, help='default: %(default)s')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    if args.images < 1 or args.repeats < 1:
        parser.error('--images and --repeats must be at least 1')
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    init_default_scope('mmpretrain')
    rng = np.random.default_rng(args.seed)
    results = {}
    with tempfile.TemporaryDirectory() as root:
        for (name, size), share in zip(SIZES.items(), (1, 7), strict=True):
            folder = Path(root, name)
            make_images(folder, size, -(-args.images // share), rng)
            what = f'{size[0]} x {size[1]}, {mean_kilobytes(folder):.0f} kB'
            results[what] = measure(folder, args)

    print(
        f'\n{processor()}, 1 thread of {os.cpu_count()} cores, torch {torch.__version__}, OpenCV '
        f'{cv2.__version__}, Pillow {PIL.__version__}, seed {args.seed}, {args.images} images, '
        f'{args.repeats} repeats, CPU time\n'
    )
    print(
        '| images | loader | images/s per core | ms per image | range | speed-up |\n'
        '|---|---|---|---|---|---|'
    )
    for what, (whole, _) in results.items():
        print_rates(what, whole)
    print('\n| images | loader | ms per image of each step |\n|---|---|---|')
    for what, (_, steps) in results.items():
        print_steps(what, steps)


if __name__ == '__main__':
    main()
