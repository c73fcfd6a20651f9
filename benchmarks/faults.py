"""What does a run lose, and what does its user see, when something goes wrong?

    python benchmarks/faults.py

Kills a small pre-training 30 times, a third of the times while it writes a checkpoint, and resumes
it; does the same to damaged checkpoints, a full disk, bad images, bad annotations and one process
of two. Prints a table. A run that goes on has to end with the weights, averages and optimizer of
the run that nothing happened to, to the bit, and must not have lost more than the steps since its
last checkpoint; else the exit status is 1.

Every run is `tools/train.py`, in a fork of this process, which has already imported everything.
The full disk is a small tmpfs and needs root.

The runs and their data are in fault_injection/bench.py, the faults in fault_injection/faults.py.
"""

import argparse
import os
import random
import re
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from fault_injection.bench import INTERVAL, ROOT, STEPS, Bench
from fault_injection.faults import (
    ANNOTATIONS,
    DAMAGE,
    damage_all,
    damage_the_newest,
    fill_the_disk,
    kill_at_random_moments,
    kill_one_of_two,
    kill_while_writing,
    spoil_a_validation_image,
    spoil_annotations,
    spoil_images,
)
from machine import machine


def faults(bench: Bench, kills: int, rng: random.Random):
    whole = bench.new('whole')
    status, text = bench.run(whole)
    if status:
        raise SystemExit(text)
    seconds = np.median([float(t) for t in re.findall(r' time: ([\d.]+)', text)])
    size = (whole / f'iter_{STEPS}.pth').stat().st_size
    print(
        f'{STEPS} steps of {1e3 * seconds:.0f} ms, a checkpoint of {size / 1e6:.0f} MB every '
        f'{INTERVAL}\n',
        flush=True,
    )
    aimed = kills // 3
    yield kill_at_random_moments(bench, whole, kills - aimed, seconds, rng)
    yield kill_while_writing(bench, whole, aimed, rng)
    for name, damage in DAMAGE.items():
        yield damage_the_newest(bench, whole, name, damage)
    yield damage_all(bench, whole)
    yield fill_the_disk(bench, whole)
    for number in (1, 10, 100):
        yield spoil_images(
            bench, 'pre-training', bench.pretraining, bench.folder / 'images', number
        )
        yield spoil_images(bench, 'detection', bench.detection, bench.folder / 'scenes', number)
    yield spoil_a_validation_image(bench)
    for name, change in ANNOTATIONS.items():
        yield spoil_annotations(bench, name, change)
    yield kill_one_of_two(bench)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--kills', type=int, default=30, help='default: %(default)s')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)  # a fork of several threads may hang
    cv2.setNumThreads(0)
    os.chdir(ROOT)
    print(f'{machine()}, seed {args.seed}')
    rows, start = [], time.time()
    with tempfile.TemporaryDirectory() as folder:
        for row in faults(Bench(Path(folder)), args.kills, random.Random(args.seed)):
            if not rows:
                print('| fault | tries | what the user sees | lost |\n|---|---|---|---|')
            print(f'| {row.fault} | {row.tries} | {row.seen} | {row.lost} |', flush=True)
            rows.append(row)
    failures = [f'{row.fault}: {failure}' for row in rows for failure in row.failures]
    print(f'\n{time.time() - start:.0f} s')
    if failures:
        raise SystemExit('\n'.join(['NOT AS IT SHOULD BE', *failures]))
    print(
        'every run that went on ended as the one that nothing happened to, to the bit; nothing '
        'was lost but the steps since the last checkpoint'
    )


if __name__ == '__main__':
    main()
