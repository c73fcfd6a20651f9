"""The faults of benchmarks/faults.py: each function disturbs a run, and tells what came of it."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import torch

from finola_mm.engine import read_checkpoint

from .bench import (
    IMAGES,
    INTERVAL,
    STEPS,
    Bench,
    difference,
    end,
    last_line,
    newest,
    resume,
    resumed_from,
    said,
    steps_made,
)

MEBIBYTE = 2**20
SHOWN = 240  # characters of a message in the table


class Row(NamedTuple):
    """One kind of fault in the table."""

    fault: str
    tries: int
    seen: str  # by the user
    lost: str
    failures: list[str]


# --------------------------------------------------------------------------------- kills
def kill_at_random_moments(bench: Bench, whole: Path, tries: int, seconds: float, rng) -> Row:
    """During any step but the last with the same probability, the start of the run being one.

    seconds: how long a step takes.
    """
    lost, failures = [], []
    for _ in range(tries):
        work = bench.new('killed')
        # During the last step it might be over before it is killed.
        step, delay = rng.randrange(STEPS - 1), rng.uniform(0, seconds)
        child = bench.start(work)
        while steps_made(said(work)) < step and not has_ended(child):
            time.sleep(0.002)
        time.sleep(delay)
        failures += kill(child)
        steps, wrong = resume(bench, work, whole, steps_made(said(work)))
        lost.append(steps)
        failures += wrong
    return Row(
        'kill -9 at a random moment', tries, 'nothing; --resume goes on', steps_lost(lost), failures
    )


def kill_while_writing(bench: Bench, whole: Path, tries: int, rng) -> Row:
    """As soon as the unfinished file of a checkpoint is seen, or a few milliseconds later."""
    lost, failures, hits, renamed = [], [], 0, 0
    for _ in range(tries):
        work = bench.new('killed_writing')
        step, delay = INTERVAL * rng.randint(1, STEPS // INTERVAL), rng.uniform(0, 0.01)
        child = bench.start(work)
        while not any(work.glob(f'.iter_{step}.pth.*')) and not has_ended(child):
            time.sleep(2e-4)
        time.sleep(delay)
        failures += kill(child)
        hits += any(work.glob('.iter_*'))
        renamed += newest(work) == step
        steps, wrong = resume(bench, work, whole, steps_made(said(work)))
        lost.append(steps)
        failures += wrong
    if not hits and tries:
        failures.append('no kill hit a checkpoint that was being written')
    seen = (
        f'nothing; --resume goes on ({hits} left an unfinished file, {renamed} came when the '
        'new one was whole)'
    )
    return Row('kill -9 while a checkpoint is written', tries, seen, steps_lost(lost), failures)


def has_ended(child: int) -> bool:
    return psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def kill(child: int) -> list[str]:
    """-> what is wrong: a run that had ended by itself was not killed."""
    os.kill(child, signal.SIGKILL)
    status = end(child)
    return [] if status == -signal.SIGKILL else [f'ended with {status} before it was killed']


def steps_lost(lost: list[int]) -> str:
    if not lost:
        return ''
    return f'{min(lost)} to {max(lost)} steps, on average {np.mean(lost):.1f}'


# --------------------------------------------------------------------------- checkpoints
def shorten(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def keep_weights_only(file: Path) -> None:
    torch.save(dict(state_dict=read_checkpoint(file)['state_dict'], meta={}), file)


DAMAGE: dict[str, Callable[[Path], object]] = {
    'torn': shorten,
    'empty': lambda file: file.write_bytes(b''),
    'of another kind (HTML)': lambda file: file.write_text('<html>404</html>'),
    'of weights alone': keep_weights_only,
    'with one bit changed': flip_a_bit,
}


def damage_the_newest(bench: Bench, whole: Path, name: str, damage) -> Row:
    work = bench.new('damaged')
    shutil.copytree(whole, work)
    damage(work / f'iter_{STEPS}.pth')
    status, text = bench.run(work, '--resume')
    failures = [] if status == 0 else [f'ended with {status}: {last_line(text)}']
    if resumed_from(text) != STEPS - INTERVAL:
        failures.append(f'resumed from {resumed_from(text)}')
    failures += filter(None, [difference(work, whole)])
    line = next((line for line in text.splitlines() if 'is resumed, and no newer' in line), '')
    failures += [] if line else ['the log does not say which file was passed over']
    return Row(f'newest checkpoint {name}', 1, said_of(line, work), f'{INTERVAL} steps', failures)


def damage_all(bench: Bench, whole: Path) -> Row:
    work = bench.new('all_damaged')
    shutil.copytree(whole, work)
    for file in work.glob('iter_*.pth'):
        shorten(file)
    return refused('all checkpoints torn', *bench.run(work, '--resume'), work)


def said_of(line: str, work: Path) -> str:
    """A line of a log without its head and the names of temporary folders."""
    line = line.rpartition(' - WARNING - ')[2].replace(f'{work}/', '')
    line = line.replace(f'{work.parents[1]}/', '').replace('|', '/')
    return line if len(line) <= SHOWN else f'{line[:SHOWN].rpartition(" ")[0]} …'


def refused(fault: str, status: int, text: str, work: Path, lost: str = 'nothing') -> Row:
    """A run that has to end by one line."""
    failures = [] if status == 1 else [f'exit status {status}']
    line = last_line(text)
    if not line.startswith('train: ') and 'train: ' in text:  # of more than one finding
        line = ' '.join(text[text.index('train: ') :].split())
    if 'Traceback' in text or 'train: ' not in line:
        failures.append(f'no line but a traceback: {line}')
    return Row(fault, 1, said_of(line, work), lost, failures)


# ----------------------------------------------------------------------------- full disk
def fill_the_disk(bench: Bench, whole: Path) -> Row:
    """A disk that holds two checkpoints and the half of a third."""
    fault, work = 'full disk', bench.new('full_disk')
    size = int(2.5 * (whole / f'iter_{STEPS}.pth').stat().st_size) + MEBIBYTE // 2
    work.mkdir(parents=True)
    mount = ['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', str(work)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return Row(fault, 0, 'not tried: no tmpfs can be mounted here', '', [])
    try:
        row = refused(fault, *bench.run(work), work)
        reached = steps_made(said(work))
        subprocess.run(['mount', '-o', f'remount,size={64 * size}', str(work)], check=True)
        lost, failures = resume(bench, work, whole, reached)
    finally:
        subprocess.run(['umount', str(work)], check=True)
    return row._replace(lost=f'{lost} steps', failures=row.failures + failures)


# ---------------------------------------------------------------------------------- data
def spoil(folder: Path, number: int) -> None:
    """Every third file empty, cut short, of another kind."""
    for i, file in enumerate(sorted(folder.iterdir())[:number]):
        whole = file.read_bytes()
        file.write_bytes((whole[: len(whole) // 2], b'', b'<html>404</html>')[i % 3])


def spoil_images(bench: Bench, name: str, config: Path, root: Path, number: int) -> Row:
    """Bad files among those of ``root``; one epoch."""
    work, moved = bench.new('images'), root.with_name(f'{root.name}_good')
    fault = f'{number} % of the images bad, {name}'
    shutil.copytree(root, moved)
    try:
        spoil(next(path for path in root.iterdir() if path.name.startswith('train')), number)
        options = ['--cfg-options', f'train_cfg.max_iters={IMAGES // 2}']
        status, text = bench.run(work, *options, config=config)
    finally:
        shutil.rmtree(root)
        moved.rename(root)
    if number > 1:
        return refused(fault, status, text, work)
    line = next((line for line in text.splitlines() if 'Training: ' in line), '')
    failures = [] if status == 0 and line else [f'ended with {status}: {last_line(text)}']
    if text.count('Cannot read ') != number:
        failures.append(f'{text.count("Cannot read ")} files were named')
    return Row(fault, 1, said_of(line, work), 'nothing: another image in its place', failures)


def spoil_a_validation_image(bench: Bench) -> Row:
    """The last one: those that are looked at before a run starts are good."""
    file = bench.folder / 'scenes/val2017' / f'{IMAGES - 1:03}.jpg'
    whole, work = file.read_bytes(), bench.new('validation')
    file.write_bytes(whole[: len(whole) // 2])
    status, text = bench.run(
        work, '--cfg-options', 'train_cfg.val_interval=4', config=bench.detection
    )
    file.write_bytes(whole)
    return refused(
        'a validation image cut short, detection',
        status,
        text,
        work,
        'steps since the last checkpoint',
    )


ANNOTATIONS = {
    'a box of NaN': dict(bbox=[1, 1, float('nan'), 9]),
    'boxes of negative size': dict(bbox=[20, 20, -9, -9]),
    'boxes outside the image': dict(bbox=[200, 1, 9, 9]),
    'an unknown category': dict(category_id=99),
}


def spoil_annotations(bench: Bench, name: str, change: dict) -> Row:
    file, work = bench.folder / 'scenes/annotations/instances_train2017.json', bench.new('boxes')
    whole = file.read_text()
    content = json.loads(whole)
    for annotation in content['annotations'][:5]:
        annotation.update(change)
    file.write_text(json.dumps(content))
    row = refused(f'annotations: {name}', *bench.run(work, config=bench.detection), work)
    file.write_text(whole)
    made = steps_made(said(work))
    return row._replace(failures=row.failures + ([f'{made} steps were made'] if made else []))


# ----------------------------------------------------------------------------- processes
def kill_one_of_two(bench: Bench) -> Row:
    """One of two processes, of which each makes half of the batch."""
    whole, work = bench.new('two'), bench.new('two_killed')
    two(bench, whole).wait()
    launcher = two(bench, work)
    while launcher.poll() is None and not (work / f'iter_{2 * INTERVAL}.pth').is_file():
        time.sleep(0.05)
    ranks = [
        child
        for child in psutil.Process(launcher.pid).children(recursive=True)
        if rank_of(child) == '1'
    ]
    failures = [] if ranks else ['no second process was found']
    for process in ranks[:1]:
        process.kill()
    started = time.time()
    status = launcher.wait()
    seen = f'the other ends {time.time() - started:.0f} s later, exit status {status}'
    reached, kept = steps_made(said(work)), newest(work)
    before = len(said(work))
    failures += [] if status else ['a run without one of its processes ended well']
    failures += [f'resumed: {code}'] if (code := two(bench, work, '--resume').wait()) else []
    start = resumed_from(said(work)[before:])
    failures += [f'resumed from {start}, not {kept}'] if start != kept else []
    failures += filter(None, [difference(work, whole)])
    return Row('kill -9 of one process of two', 1, seen, f'{reached - start} steps', failures)


def two(bench: Bench, work: Path, *args: str) -> subprocess.Popen:
    work.parent.mkdir(parents=True, exist_ok=True)
    with open(f'{work}.log', 'a') as log:
        return subprocess.Popen(
            [
                'bash',
                'tools/dist_train.sh',
                str(bench.pretraining),
                '2',
                f'--work-dir={work}',
                *args,
            ],
            stdout=log,
            stderr=log,
            env=dict(os.environ, OMP_NUM_THREADS='1'),
        )


def rank_of(process: psutil.Process) -> str | None:
    try:
        trains = any('train.py' in word for word in process.cmdline())
        return process.environ().get('RANK') if trains else None
    except psutil.Error:
        return None
