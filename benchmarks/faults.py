"""What does a run lose, and what does its user see, when something goes wrong?

    python benchmarks/faults.py

Kills a small pre-training 30 times, a third of the times while it writes a checkpoint, and resumes
it; does the same to damaged checkpoints, a full disk, bad images, bad annotations and one process
of two. Prints a table. A run that goes on has to end with the weights, averages and optimizer of
the run that nothing happened to, to the bit, and must not have lost more than the steps since its
last checkpoint; else the exit status is 1.

Every run is `tools/train.py`, in a fork of this process, which has already imported everything.
The full disk is a small tmpfs and needs root.
"""

import argparse
import json
import os
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import mmdet.datasets  # noqa: F401
import mmpretrain.datasets  # noqa: F401
import numpy as np
import psutil
import torch
from machine import machine
from mmengine.config import Config
from PIL import Image

import finola_mm.det
import finola_mm.selfsup  # noqa: F401
from finola_mm.engine import CheckpointError, read_checkpoint

ROOT = Path(__file__).parents[1]
STEPS, INTERVAL = 24, 4  # a checkpoint every 4 steps
IMAGES = 100
COMPARED = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')
MEBIBYTE = 2**20
SHOWN = 240  # characters of a message in the table


class Row(NamedTuple):
    """One kind of fault in the table."""

    fault: str
    tries: int
    seen: str  # by the user
    lost: str
    failures: list[str]


# ---------------------------------------------------------------------------------- runs
class Bench:
    """A folder with data and configs, and runs in it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.number = 0
        write_images(folder / 'images')
        write_scenes(folder / 'scenes')
        self.train = shutil.copy('tools/train.py', folder)  # as it is now, like what was imported
        self.pretraining = pretraining_config(folder)
        self.detection = detection_config(folder)

    def new(self, name: str) -> Path:
        self.number += 1
        return self.folder / 'runs' / f'{self.number}_{name}'

    def start(self, work: Path, *args: str, config: Path | None = None) -> int:
        """tools/train.py in a fork; what it says goes to ``work``.log. -> its process id"""
        argv = ['tools/train.py', str(config or self.pretraining), f'--work-dir={work}', *args]
        work.parent.mkdir(parents=True, exist_ok=True)
        child = os.fork()
        if child:
            return child
        log = os.open(f'{work}.log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = 0
        try:
            sys.argv = argv
            runpy.run_path(self.train, run_name='__main__')
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

    def run(self, work: Path, *args: str, config: Path | None = None) -> tuple[int, str]:
        """A run to its end; -> exit status and what it said."""
        before = len(said(work))
        status = end(self.start(work, *args, config=config))
        return status, said(work)[before:]


def end(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def said(work: Path) -> str:
    log = Path(f'{work}.log')
    return log.read_text(errors='replace') if log.exists() else ''


def steps_made(text: str) -> int:
    return max(map(int, re.findall(r'Iter\(train\) \[ *(\d+)/', text)), default=0)


def resumed_from(text: str) -> int:
    found = re.search(r'resumed epoch: \d+, iter: (\d+)', text)
    return int(found[1]) if found else 0


def newest(work: Path) -> int:
    return max((int(file.stem[5:]) for file in work.glob('iter_*.pth')), default=0)


def last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ''


def difference(work: Path, whole: Path, *, steps: int = STEPS) -> str | None:
    """The first part of the last checkpoint that is not the other run's, to the bit."""
    files = [folder / f'iter_{steps}.pth' for folder in (work, whole)]
    if not files[0].is_file():
        return f'{files[0].name} was not written'
    try:
        mine, its = map(read_checkpoint, files)
    except CheckpointError as error:
        return str(error)
    unequal = [part for part in COMPARED if not equal(mine.get(part), its.get(part))]
    return f'other {", ".join(unequal)}' if unequal else None


def equal(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def resume(bench: Bench, work: Path, whole: Path, reached: int) -> tuple[int, list[str], str]:
    """Go on after a fault at step ``reached``; -> (steps lost, what is wrong, what was said)."""
    kept = newest(work)
    status, text = bench.run(work, '--resume')
    start, failures = resumed_from(text), []
    if status:
        failures.append(f'the resumed run ended with {status}: {last_line(text)}')
    if start != kept:
        failures.append(f'resumed from step {start}, but step {kept} was on the disk')
    if start < INTERVAL * ((reached - 1) // INTERVAL):
        failures.append(f'reached step {reached} and went on from {start}')
    if len(list(work.glob('iter_*.pth'))) > 3 or list(work.glob('.*.unfinished')):
        failures.append('files were left over')
    changed = difference(work, whole)
    if changed:
        failures.append(changed)
    return max(0, reached - start), failures, text


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
        steps, wrong, _ = resume(bench, work, whole, steps_made(said(work)))
        lost.append(steps)
        failures += wrong
    return Row('kill -9 at a random moment', tries, 'nothing; --resume goes on', steps_lost(lost),
               failures)


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
        steps, wrong, _ = resume(bench, work, whole, steps_made(said(work)))
        lost.append(steps)
        failures += wrong
    if not hits and tries:
        failures.append('no kill hit a checkpoint that was being written')
    seen = (f'nothing; --resume goes on ({hits} left an unfinished file, {renamed} came when the '
            'new one was whole)')
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
        line = ' '.join(text[text.index('train: '):].split())
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
        lost, failures, _ = resume(bench, work, whole, reached)
    finally:
        subprocess.run(['umount', str(work)], check=True)
    return row._replace(lost=f'{lost} steps', failures=row.failures + failures)


# ---------------------------------------------------------------------------------- data
def write_images(root: Path) -> None:
    rng = np.random.default_rng(0)
    (root / 'train').mkdir(parents=True)
    for i in range(IMAGES):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        coarse.resize((90, 70)).save(root / 'train' / f'{i:03}.jpg')


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


def write_scenes(root: Path) -> None:
    """Images with two objects each, for training and validation."""
    classes = Config.fromfile(ROOT / 'configs/demo/det_mf_dec211.py').classes
    rng = np.random.default_rng(0)
    names = [f'{i:03}.jpg' for i in range(IMAGES)]
    content = dict(
        images=[dict(id=i, file_name=name, width=80, height=60) for i, name in enumerate(names)],
        annotations=[
            dict(id=i, image_id=i // 2, category_id=i % len(classes), iscrowd=0, area=750,
                 bbox=[5 + i % 7, 4 + i % 5, 30, 25]) for i in range(2 * IMAGES)],
        categories=[dict(id=i, name=name) for i, name in enumerate(classes)])
    (root / 'annotations').mkdir(parents=True)
    for split in ('train2017', 'val2017'):
        (root / split).mkdir()
        for name in names:
            coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
            coarse.resize((80, 60)).save(root / split / name)
        (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content))


def spoil_a_validation_image(bench: Bench) -> Row:
    """The last one: those that are looked at before a run starts are good."""
    file = bench.folder / 'scenes/val2017' / f'{IMAGES - 1:03}.jpg'
    whole, work = file.read_bytes(), bench.new('validation')
    file.write_bytes(whole[: len(whole) // 2])
    status, text = bench.run(work, '--cfg-options', 'train_cfg.val_interval=4',
                             config=bench.detection)
    file.write_bytes(whole)
    return refused('a validation image cut short, detection', status, text, work,
                   'steps since the last checkpoint')


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
    ranks = [child for child in psutil.Process(launcher.pid).children(recursive=True)
             if rank_of(child) == '1']
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
            ['bash', 'tools/dist_train.sh', str(bench.pretraining), '2', f'--work-dir={work}',
             *args], stdout=log, stderr=log, env=dict(os.environ, OMP_NUM_THREADS='1'))


def rank_of(process: psutil.Process) -> str | None:
    try:
        trains = any('train.py' in word for word in process.cmdline())
        return process.environ().get('RANK') if trains else None
    except psutil.Error:
        return None


# --------------------------------------------------------------------------------- configs
def pretraining_config(folder: Path) -> Path:
    """The demo at 64 x 64 in batches of 2, with an average of the weights."""
    cfg = Config.fromfile(ROOT / 'configs/demo/masked_finola_b.py')
    shrink(cfg, cfg.train_dataloader.dataset.dataset, folder / 'images')
    cfg.train_dataloader.dataset.dataset.pipeline[1].scale = 64
    cfg.model.upsampler.update(depth=1, embed_dim=48)
    cfg.custom_hooks.append(dict(type='EMAHook'))
    cfg.dump(folder / 'pretraining.py')
    return folder / 'pretraining.py'


def detection_config(folder: Path) -> Path:
    """The detection demo with a narrow decoder, on the scenes."""
    cfg = Config.fromfile(ROOT / 'configs/demo/det_mf_dec211.py')
    shrink(cfg, cfg.train_dataloader.dataset.dataset, folder / 'scenes')
    cfg.val_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.val_dataloader.dataset.data_root = str(folder / 'scenes')
    cfg.val_evaluator.ann_file = f'{folder}/scenes/annotations/instances_val2017.json'
    cfg.model.decoder.update(arch=(1, 1, 1), dim=32, heads=4, hidden=32, num_queries=8)
    cfg.model.test_cfg.max_per_img = 8
    cfg.model.backbone.frozen_stages = -1
    cfg.dump(folder / 'detection.py')
    return folder / 'detection.py'


def shrink(cfg: Config, dataset: dict, root: Path) -> None:
    dataset.data_root = str(root)
    cfg.train_dataloader.update(batch_size=2, num_workers=0, persistent_workers=False)
    cfg.train_dataloader.sampler.type = 'finola_mm.SeededInfiniteSampler'
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=STEPS, val_interval=1000)
    cfg.param_scheduler = dict(
        type='CosineAnnealingLR', T_max=STEPS, by_epoch=False, begin=0, end=STEPS)
    cfg.default_hooks.checkpoint.update(interval=INTERVAL, by_epoch=False, max_keep_ckpts=3)
    cfg.default_hooks.logger.interval = 1
    cfg.log_processor = dict(type='LogProcessor', by_epoch=False, window_size=1)
    cfg.default_hooks.pop('knn', None)
    if cfg.model.type != 'finola_mm.MobileFormerDETR':
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.visualizer.vis_backends = [dict(type='LocalVisBackend')]


# ----------------------------------------------------------------------------------- main
def faults(bench: Bench, kills: int, rng: random.Random):
    whole = bench.new('whole')
    status, text = bench.run(whole)
    if status:
        raise SystemExit(text)
    seconds = np.median([float(t) for t in re.findall(r' time: ([\d.]+)', text)])
    size = (whole / f'iter_{STEPS}.pth').stat().st_size
    print(f'{STEPS} steps of {1e3 * seconds:.0f} ms, a checkpoint of {size / 1e6:.0f} MB every '
          f'{INTERVAL}\n', flush=True)
    aimed = kills // 3
    yield kill_at_random_moments(bench, whole, kills - aimed, seconds, rng)
    yield kill_while_writing(bench, whole, aimed, rng)
    for name, damage in DAMAGE.items():
        yield damage_the_newest(bench, whole, name, damage)
    yield damage_all(bench, whole)
    yield fill_the_disk(bench, whole)
    for number in (1, 10, 100):
        yield spoil_images(
            bench, 'pre-training', bench.pretraining, bench.folder / 'images', number)
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
    print('every run that went on ended as the one that nothing happened to, to the bit; nothing '
          'was lost but the steps since the last checkpoint')


if __name__ == '__main__':
    main()
