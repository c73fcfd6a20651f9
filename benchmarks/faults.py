"""Kill training runs, fill their disk, and check that `--resume` reproduces the undisturbed run.

    python benchmarks/faults.py [--kills 30] [--seed 0]

A small pre-training is killed at random moments and while it writes a checkpoint, runs out of disk
space, and loses one rank of two. Each time it is resumed. It must end with the weights, averages,
optimizer and schedule of an undisturbed run, bit-identical, and lose only the steps since its last
checkpoint. Otherwise the exit status is 1. The script prints a table of what the user sees.

A run on one rank is tools/train.py in a fork of this process, which has imported everything. The
full disk is a tmpfs and needs root. Damaged checkpoints, images and annotations are injected by the
tests (docs/faults.md).
"""

import argparse
import os
import random
import re
import runpy
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import mmpretrain.datasets  # noqa: F401
import numpy as np
import psutil
import torch
from machine import machine
from mmengine.config import Config
from PIL import Image

import finola_mm.selfsup  # noqa: F401
from finola_mm.engine import CheckpointError, read_checkpoint

ROOT = Path(__file__).parents[1]
STEPS, INTERVAL = 24, 4  # a checkpoint every 4 steps
IMAGES = 100
COMPARED = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')
MEBIBYTE = 2**20
MAX_MESSAGE = 240  # characters of a message in the table


class Row(NamedTuple):
    """One kind of fault in the table."""

    fault: str
    tries: int
    seen: str  # by the user
    lost: str
    failures: list[str]


class Bench:
    """A folder with data, a config and the work directories of its runs."""

    def __init__(self, folder: Path):
        self.folder, self.number = folder, 0
        write_images(folder / 'images')
        self.config = write_config(folder)

    def new(self, name: str) -> Path:
        """Return an unused work directory."""
        self.number += 1
        work = self.folder / 'runs' / f'{self.number}_{name}'
        work.mkdir(parents=True)
        return work

    def start(self, work: Path, *args: str) -> int:
        """Run tools/train.py in a fork with its output in ``work``.log; return the process id."""
        child = os.fork()
        if child:
            return child
        log = os.open(f'{work}.log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = 0
        try:
            sys.argv = ['tools/train.py', str(self.config), f'--work-dir={work}', *args]
            runpy.run_path('tools/train.py', run_name='__main__')
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
            if isinstance(stop.code, str):
                print(stop.code, file=sys.stderr)
        except BaseException:
            code = 1
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    def run(self, work: Path, *args: str) -> tuple[int, str]:
        """Run tools/train.py to its end; return its exit status and output."""
        before = len(output(work))
        status = wait(self.start(work, *args))
        return status, output(work)[before:]

    def start_two(self, work: Path, *args: str) -> subprocess.Popen:
        """Start tools/dist_train.sh with two ranks; each takes half of the batch."""
        command = ['bash', 'tools/dist_train.sh', self.config, '2', f'--work-dir={work}', *args]
        with open(f'{work}.log', 'a') as log:
            env = dict(os.environ, OMP_NUM_THREADS='1')
            return subprocess.Popen(command, stdout=log, stderr=log, env=env)


def write_images(root: Path) -> None:
    rng = np.random.default_rng(0)
    (root / 'train').mkdir(parents=True)
    for i in range(IMAGES):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        coarse.resize((90, 70)).save(root / 'train' / f'{i:03}.jpg')


def write_config(folder: Path) -> Path:
    """Write the demo's config for 64 x 64 images, batch size 2 and an average of the weights."""
    cfg = Config.fromfile(ROOT / 'configs/demo/masked_finola_b.py')
    cfg.train_dataloader.update(batch_size=2, num_workers=0, persistent_workers=False)
    cfg.train_dataloader.dataset.dataset.data_root = str(folder / 'images')
    cfg.train_dataloader.dataset.dataset.pipeline[1].scale = 64
    cfg.model.upsampler.update(depth=1, embed_dim=48)
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=STEPS, val_interval=1000)
    cfg.param_scheduler = dict(
        type='CosineAnnealingLR', T_max=STEPS, by_epoch=False, begin=0, end=STEPS
    )
    cfg.default_hooks.checkpoint.update(interval=INTERVAL, by_epoch=False, max_keep_ckpts=3)
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.pop('knn')
    cfg.custom_hooks.append(dict(type='EMAHook'))
    cfg.log_processor = dict(type='LogProcessor', by_epoch=False, window_size=1)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    cfg.dump(folder / 'pretraining.py')
    return folder / 'pretraining.py'


# ------------------------------------------------------------------- state of a run
def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def output(work: Path) -> str:
    log = Path(f'{work}.log')
    return log.read_text(errors='replace') if log.exists() else ''


def last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), '')


def steps_reached(text: str) -> int:
    return max(map(int, re.findall(r'Iter\(train\) \[ *(\d+)/', text)), default=0)


def resumed_from(text: str) -> int:
    found = re.search(r'resumed epoch: \d+, iter: (\d+)', text)
    return int(found[1]) if found else 0


def newest(work: Path) -> int:
    """Return the step of the newest checkpoint."""
    return max((int(file.stem[5:]) for file in work.glob('iter_*.pth')), default=0)


def difference(work: Path, reference: Path) -> list[str]:
    """Compare the last checkpoints of two runs bit by bit."""
    files = [folder / f'iter_{STEPS}.pth' for folder in (work, reference)]
    if not files[0].is_file():
        return [f'{files[0].name} was not written']
    try:
        one, other = map(read_checkpoint, files)
    except CheckpointError as error:
        return [str(error)]
    unequal = [part for part in COMPARED if not equal(one.get(part), other.get(part))]
    return [f'different {", ".join(unequal)}'] if unequal else []


def equal(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def resume(bench: Bench, work: Path, reference: Path) -> tuple[int, list[str]]:
    """Resume after a fault; return the number of steps lost, and failures."""
    reached, kept = steps_reached(output(work)), newest(work)
    status, text = bench.run(work, '--resume')
    start, failures = resumed_from(text), check_resumed(status, text, kept, work, reference)
    if start < INTERVAL * ((reached - 1) // INTERVAL):
        failures.append(f'reached step {reached} but resumed from {start}')
    if len(list(work.glob('iter_*.pth'))) > 3 or list(work.glob('.iter_*')):
        failures.append('stale files remain')
    return max(0, reached - start), failures


def check_resumed(status: int, text: str, kept: int, work: Path, reference: Path) -> list[str]:
    """Check a resumed run: its end, its first step and its last checkpoint."""
    failures, start = difference(work, reference), resumed_from(text)
    if status:
        failures.append(f'the resumed run failed with status {status}: {last_line(text)}')
    if start != kept:
        failures.append(f'resumed from step {start} although step {kept} was on disk')
    return failures


# --------------------------------------------------------------------------- faults
def kill_at_random_moments(bench: Bench, reference: Path, tries: int, seconds: float, rng) -> Row:
    """Kill runs during any step but the last, all with equal probability.

    seconds: duration of a step.
    """
    lost, failures = [], []
    for _ in range(tries):
        # During the last step the run could end before it is killed.
        step, delay = rng.randrange(STEPS - 1), rng.uniform(0, seconds)
        work, found = kill(
            bench, lambda work, step=step: steps_reached(output(work)) >= step, delay
        )
        steps, more = resume(bench, work, reference)
        lost.append(steps)
        failures += found + more
    return Row('kill -9 at a random moment', tries, 'nothing', steps_lost(lost), failures)


def kill_while_writing(bench: Bench, reference: Path, tries: int, rng) -> Row:
    """Kill runs up to 10 ms after the temporary file of a checkpoint appears."""
    lost, failures, unfinished, finished = [], [], 0, 0
    for _ in range(tries):
        step, delay = INTERVAL * rng.randint(1, STEPS // INTERVAL), rng.uniform(0, 0.01)
        temporary = f'.iter_{step}.pth.*'
        work, found = kill(bench, lambda work, name=temporary: any(work.glob(name)), delay)
        unfinished += any(work.glob('.iter_*'))
        finished += newest(work) == step
        steps, more = resume(bench, work, reference)
        lost.append(steps)
        failures += found + more
    if tries and not unfinished:
        failures.append('no kill hit a checkpoint that was being written')
    seen = f'nothing (temporary file left: {unfinished}, checkpoint complete: {finished})'
    return Row('kill -9 while a checkpoint is written', tries, seen, steps_lost(lost), failures)


def kill(bench: Bench, ready: Callable[[Path], bool], delay: float) -> tuple[Path, list[str]]:
    """Kill a run ``delay`` seconds after ``ready``; return its work directory, and failures."""
    work = bench.new('killed')
    child = bench.start(work)
    while not ready(work) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        time.sleep(5e-4)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    status = wait(child)
    return work, [] if status == -signal.SIGKILL else [f'ended with {status} before the kill']


def steps_lost(lost: list[int]) -> str:
    return f'{min(lost)} to {max(lost)} steps, mean {np.mean(lost):.1f}' if lost else ''


def fill_the_disk(bench: Bench, reference: Path) -> Row:
    """Train on a disk with space for two and a half checkpoints."""
    fault, work = 'full disk', bench.new('full_disk')
    size = int(2.5 * (reference / f'iter_{STEPS}.pth').stat().st_size) + MEBIBYTE // 2
    mount = ['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', str(work)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return Row(fault, 0, 'not tried: mounting a tmpfs failed (root required)', '', [])
    try:
        status, text = bench.run(work)
        subprocess.run(['mount', '-o', f'remount,size={64 * size}', str(work)], check=True)
        lost, failures = resume(bench, work, reference)
    finally:
        subprocess.run(['umount', str(work)], check=True)
    message = last_line(text)
    if status != 1:
        failures.append(f'exit status {status}')
    if 'Traceback' in text or not message.startswith('train: '):
        failures.append(f'no one-line message: {message}')
    seen = textwrap.shorten(message.replace(f'{work}/', ''), MAX_MESSAGE, placeholder=' …')
    return Row(fault, 1, seen.replace('|', '/'), f'{lost} steps', failures)


def kill_one_of_two(bench: Bench) -> Row:
    """Kill rank 1 of two after the second checkpoint."""
    reference, work = bench.new('two'), bench.new('two_killed')
    bench.start_two(reference).wait()
    launcher = bench.start_two(work)
    while launcher.poll() is None and newest(work) < 2 * INTERVAL:
        time.sleep(0.05)
    children = psutil.Process(launcher.pid).children(recursive=True)
    ranks = [child for child in children if rank_of(child) == '1']
    failures = [] if ranks else ['rank 1 was not found']
    for process in ranks[:1]:
        process.kill()
    start = time.time()
    status = launcher.wait()
    seen = f'rank 0 ends {time.time() - start:.0f} s later, exit status {status}'
    failures += [] if status else ['the run succeeded without one of its ranks']
    reached, kept, before = steps_reached(output(work)), newest(work), len(output(work))
    code = bench.start_two(work, '--resume').wait()
    text = output(work)[before:]
    failures += check_resumed(code, text, kept, work, reference)
    lost = f'{reached - resumed_from(text)} steps'
    return Row('kill -9 of one rank of two', 1, seen, lost, failures)


def rank_of(process: psutil.Process) -> str | None:
    try:
        trains = any('train.py' in word for word in process.cmdline())
        return process.environ().get('RANK') if trains else None
    except psutil.Error:
        return None


# ------------------------------------------------------------------------- campaign
def campaign(bench: Bench, kills: int, rng: random.Random) -> Iterator[Row]:
    reference = bench.new('reference')
    status, text = bench.run(reference)
    if status:
        raise SystemExit(text)
    seconds = np.median([float(t) for t in re.findall(r' time: ([\d.]+)', text)])
    size = (reference / f'iter_{STEPS}.pth').stat().st_size
    print(
        f'{STEPS} steps of {1e3 * seconds:.0f} ms, a checkpoint of {size / 1e6:.0f} MB every '
        f'{INTERVAL}\n\n| fault | tries | what the user sees | lost |\n|---|---|---|---|',
        flush=True,
    )
    while_writing = kills // 3
    yield kill_at_random_moments(bench, reference, kills - while_writing, seconds, rng)
    yield kill_while_writing(bench, reference, while_writing, rng)
    yield fill_the_disk(bench, reference)
    yield kill_one_of_two(bench)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--kills', type=int, default=30, help='a third while writing; default: %(default)s'
    )
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)  # a fork of a process with several threads can hang
    cv2.setNumThreads(0)
    os.chdir(ROOT)
    print(f'{machine()}, seed {args.seed}')
    rows, start = [], time.time()
    with tempfile.TemporaryDirectory() as folder:
        for row in campaign(Bench(Path(folder)), args.kills, random.Random(args.seed)):
            print(f'| {row.fault} | {row.tries} | {row.seen} | {row.lost} |', flush=True)
            rows.append(row)
    failures = [f'{row.fault}: {failure}' for row in rows for failure in row.failures]
    print(f'\n{time.time() - start:.0f} s')
    if failures:
        raise SystemExit('\n'.join(['FAILED', *failures]))
    print('all resumed runs are bit-identical to the undisturbed run')


if __name__ == '__main__':
    main()
