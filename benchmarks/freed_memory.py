"""What is gained on a CPU where the C library keeps freed memory, and what does it cost?

    python benchmarks/freed_memory.py [--threads 1] [--turns 3] [--steps 12]

Small models train by tools/train.py on data/shapes, in a process that keeps the memory that tensors
have freed, as the tool does, and in one that returns it to the kernel, as the C library does by
itself; in turns. A step's time is without that of loading. Page faults are those of the whole
process, start included: how often the kernel gave it a page of memory.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import machine

ROOT = Path(__file__).parents[1]
CONFIGS = {
    'masked FINOLA-B': 'configs/demo/masked_finola_b.py',
    'FINOLA': 'configs/demo/finola.py',
    'supervised': 'configs/demo/cls_supervised.py',
}
WARM_UP = 4  # steps
TRAIN = """
import runpy, sys
from finola_mm import engine
if not {keep}:
    engine.keep_freed_memory = lambda: None
sys.argv = {argv}
runpy.run_path('tools/train.py', run_name='__main__')
"""


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--threads', type=int, default=1, help='of each process')
    parser.add_argument('--turns', type=int, default=3, help='runs of each kind')
    parser.add_argument('--steps', type=int, default=12, help=f'of a run; {WARM_UP} are not timed')
    args = parser.parse_args()
    if args.steps <= WARM_UP:
        parser.error(f'--steps {args.steps}: expected more than {WARM_UP}')
    return args


def train(config, keep, args, work_dir):
    """A few steps. -> seconds of a step (median), page faults, MiB at the peak"""
    argv = [
        'tools/train.py',
        config,
        '--no-validate',
        '--work-dir',
        str(work_dir),
        '--cfg-options',
        f'train_cfg.max_iters={args.steps}',
        'default_hooks.logger.interval=1',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        f'default_hooks.checkpoint.interval={args.steps + 1}',
        'log_processor.window_size=1',
        'default_hooks.checkpoint.save_last=False',
    ]
    command = [sys.executable, '-c', TRAIN.format(keep=keep, argv=argv)]
    environment = {**os.environ, 'OMP_NUM_THREADS': str(args.threads), 'CUDA_VISIBLE_DEVICES': ''}
    with open(work_dir / 'output.log', 'w') as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f'{config} failed:\n{(work_dir / "output.log").read_text()[-2000:]}')
    (file,) = work_dir.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in file.read_text().splitlines()][WARM_UP:]
    seconds = statistics.median(line['time'] - line['data_time'] for line in lines)
    return seconds, usage.ru_minflt, usage.ru_maxrss / 1024


def main():
    args = parse_args()
    print(f'{machine()}; {args.threads} threads of each process, {args.turns} turns')
    print(
        f'{"":17}{"s a step":>22}{"ratio":>7}{"page faults, 1000":>22}{"peak, MiB":>16}\n'
        f'{"":17}{"returned":>13}{"kept":>9}{"":7}{"returned":>13}{"kept":>9}'
        f'{"returned":>11}{"kept":>7}'
    )
    for name, config in CONFIGS.items():
        found = {True: [], False: []}
        for turn in range(args.turns):
            for keep in (turn % 2 == 0, turn % 2 == 1):
                with tempfile.TemporaryDirectory() as work_dir:
                    found[keep].append(train(config, keep, args, Path(work_dir)))
        ratio = statistics.median(
            k[0] / r[0] for k, r in zip(found[True], found[False], strict=True)
        )
        (s, faults, peak), (s_kept, faults_kept, peak_kept) = (
            map(statistics.median, zip(*found[keep], strict=True)) for keep in (False, True)
        )
        print(
            f'{name:17}{s:13.2f}{s_kept:9.2f}{ratio:7.2f}{faults / 1e3:13.0f}'
            f'{faults_kept / 1e3:9.0f}{peak:11.0f}{peak_kept:7.0f}',
            flush=True,
        )


if __name__ == '__main__':
    main()
