"""Measure whether the memory of the detection pipeline grows with time.

    python benchmarks/soak.py --minutes 30

Loads batches as in training with configs/det/detr_mf_dec522.py (data set, augmentation, workers,
collation), without a model, and samples the resident memory of this process and of its workers
every second. Memory is flat if the median of the last tenth of the samples is at most 5 % above
that of the first tenth after the warm-up, for this process and for the workers. Otherwise the exit
status is 1.

The images are the generated scenes of data/shapes/coco, or --data, a folder in COCO's layout with
the same classes.
"""

import argparse
import csv
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from machine import machine
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

import finola_mm.det  # noqa: F401
from finola_mm.datasets.validation import check_data
from finola_mm.errors import UserError

CONFIGS = Path(__file__).parents[1] / 'configs'
WARM_UP = 0.2  # share of the time, after which every worker has loaded every image size
GROWTH = 1.05
MEBIBYTE = 2**20


class Sample(NamedTuple):
    """Resident memory at one time, in MiB."""

    seconds: float
    images: int  # loaded so far
    main: float
    workers: float  # the sum over all


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--minutes', type=float, default=2, help='default: %(default)s')
    parser.add_argument('--workers', type=int, default=2, help='default: %(default)s')
    parser.add_argument('--data', default='data/shapes/coco', help='default: %(default)s')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--csv', help='write the samples to this file')
    parser.add_argument('--plot', help='plot them into this file')
    return parser.parse_args()


def build_loader(data: str, workers: int, seed: int):
    """The training data loader of the recipe with other images."""
    cfg = Config.fromfile(CONFIGS / 'det/detr_mf_dec522.py')
    demo = Config.fromfile(CONFIGS / 'demo/det_mf_dec211.py').train_dataloader.dataset.dataset
    cfg.train_dataloader.dataset.dataset.update(data_root=data, metainfo=demo.metainfo)
    cfg.train_dataloader.update(
        num_workers=workers, persistent_workers=workers > 0, pin_memory=False
    )
    cfg.model.bbox_head.num_classes = len(demo.metainfo.classes)
    cfg.missing_data_hint = (
        'Make them: python tools/dataset_converters/make_shapes.py --out data/shapes'
    )
    init_default_scope('mmdet')
    check_data(cfg, ['train'])
    return Runner.build_dataloader(cfg.train_dataloader, seed=seed)


def batches(loader):
    """Yield batches of successive epochs, as the training loop does."""
    epoch = 0
    while True:
        loader.sampler.set_epoch(epoch)
        yield from loader
        epoch += 1


def resident(process: psutil.Process) -> float:
    try:
        return process.memory_info().rss / MEBIBYTE
    except psutil.NoSuchProcess:
        return 0.0


def soak(loader, seconds: float) -> list[Sample]:
    samples, images, start = [], 0, time.monotonic()
    main = psutil.Process()
    for batch in batches(loader):
        images += len(batch['inputs'])
        now = time.monotonic() - start
        if now >= len(samples) + 1:
            workers = sum(map(resident, main.children()))
            samples.append(Sample(now, images, resident(main), workers))
        if now >= seconds:
            return samples


def is_flat(name: str, values: np.ndarray) -> bool:
    """Print a row about memory after the warm-up; return whether it is flat."""
    tenth = max(1, len(values) // 10)
    first, last = np.median(values[:tenth]), np.median(values[-tenth:])
    flat = bool(last <= GROWTH * first)
    print(
        f'| {name} | {first:.0f} | {last:.0f} | {values.max():.0f} | {last / first - 1:+.1%} | '
        f'{"flat" if flat else "GROWS"} |'
    )
    return flat


def write(samples: list[Sample], file: str) -> None:
    with open(file, 'w', newline='') as opened:
        csv.writer(opened).writerows([Sample._fields, *samples])


def plot(samples: list[Sample], file: str) -> None:
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    minutes = [sample.seconds / 60 for sample in samples]
    for name in ('main', 'workers'):
        pyplot.plot(minutes, [getattr(sample, name) for sample in samples], label=name)
    pyplot.ylim(0)
    pyplot.xlabel('minutes')
    pyplot.ylabel('resident memory, MiB')
    pyplot.legend()
    pyplot.savefig(file, dpi=100)


def main() -> None:
    args = parse_args()
    try:
        loader = build_loader(args.data, args.workers, args.seed)
    except UserError as error:
        raise SystemExit(f'soak: {error}') from None
    samples = soak(loader, 60 * args.minutes)
    if args.csv:
        write(samples, args.csv)
    if args.plot:
        plot(samples, args.plot)
    images, seconds = samples[-1].images, samples[-1].seconds
    print(
        f'{machine()}, {args.workers} workers, seed {args.seed}: {images} images in '
        f'{seconds / 60:.1f} minutes, {images / seconds:.0f} a second\n'
    )
    print('| resident MiB | first | last | largest | growth | |\n|---|---|---|---|---|---|')
    after = samples[int(WARM_UP * len(samples)) :]
    parts = ('main', 'workers') if args.workers else ('main',)
    flat = [is_flat(name, np.array([getattr(s, name) for s in after])) for name in parts]
    raise SystemExit(0 if all(flat) else 1)


if __name__ == '__main__':
    main()
