"""The runs that benchmarks/faults.py disturbs: their data and configs, and what comes of them."""

import json
import os
import re
import runpy
import shutil
import sys
import traceback
from pathlib import Path

import mmdet.datasets  # noqa: F401
import mmpretrain.datasets  # noqa: F401
import numpy as np
import torch
from mmengine.config import Config
from PIL import Image

import finola_mm.det
import finola_mm.selfsup  # noqa: F401
from finola_mm.engine import CheckpointError, read_checkpoint

ROOT = Path(__file__).parents[2]
STEPS, INTERVAL = 24, 4  # a checkpoint every 4 steps
IMAGES = 100
COMPARED = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')


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


def difference(work: Path, whole: Path) -> str | None:
    """The first part of the last checkpoint that is not the other run's, to the bit."""
    files = [folder / f'iter_{STEPS}.pth' for folder in (work, whole)]
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


def resume(bench: Bench, work: Path, whole: Path, reached: int) -> tuple[int, list[str]]:
    """Go on after a fault at step ``reached``; -> (steps lost, what is wrong)."""
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
    return max(0, reached - start), failures


# ---------------------------------------------------------------------------------- data
def write_images(root: Path) -> None:
    rng = np.random.default_rng(0)
    (root / 'train').mkdir(parents=True)
    for i in range(IMAGES):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        coarse.resize((90, 70)).save(root / 'train' / f'{i:03}.jpg')


def write_scenes(root: Path) -> None:
    """Images with two objects each, for training and validation."""
    classes = Config.fromfile(ROOT / 'configs/demo/det_mf_dec211.py').classes
    rng = np.random.default_rng(0)
    names = [f'{i:03}.jpg' for i in range(IMAGES)]
    content = dict(
        images=[dict(id=i, file_name=name, width=80, height=60) for i, name in enumerate(names)],
        annotations=[
            dict(
                id=i,
                image_id=i // 2,
                category_id=i % len(classes),
                iscrowd=0,
                area=750,
                bbox=[5 + i % 7, 4 + i % 5, 30, 25],
            )
            for i in range(2 * IMAGES)
        ],
        categories=[dict(id=i, name=name) for i, name in enumerate(classes)],
    )
    (root / 'annotations').mkdir(parents=True)
    for split in ('train2017', 'val2017'):
        (root / split).mkdir()
        for name in names:
            coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
            coarse.resize((80, 60)).save(root / split / name)
        (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content))


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
        type='CosineAnnealingLR', T_max=STEPS, by_epoch=False, begin=0, end=STEPS
    )
    cfg.default_hooks.checkpoint.update(interval=INTERVAL, by_epoch=False, max_keep_ckpts=3)
    cfg.default_hooks.logger.interval = 1
    cfg.log_processor = dict(type='LogProcessor', by_epoch=False, window_size=1)
    cfg.default_hooks.pop('knn', None)
    if cfg.model.type != 'finola_mm.MobileFormerDETR':
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.visualizer.vis_backends = [dict(type='LocalVisBackend')]
