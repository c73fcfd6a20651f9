"""Measure a pre-training step with one and with two ranks, and what the ranks exchange.

    python benchmarks/two_processes.py [--config configs/demo/masked_finola_b.py] [--batch 16]

Each rank has one thread and trains on the same number of random images, in float32. The rows are
the whole step of the runner (with two ranks, DDP exchanges gradients during the backward pass), the
all-reduce of as many bytes alone, and that of one number, by which InterruptionHook checks for
signals before each update. Times are minima, to exclude other load of the machine. Ranks use NCCL
with GPUs, otherwise gloo over the loopback interface.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from machine import machine
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import distributed

ROOT = Path(__file__).resolve().parents[1]


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--config', default=str(ROOT / 'configs/demo/masked_finola_b.py'))
    parser.add_argument('--batch', type=int, default=16, help='images per rank')
    parser.add_argument('--size', type=int, default=128, help='side of an image in pixels')
    parser.add_argument('--steps', type=int, default=20)
    parser.add_argument('--launcher', default='none', help=argparse.SUPPRESS)
    return parser.parse_args()


def quickest(call, steps: int) -> float:
    """Seconds; the first two calls do not count."""
    times = []
    for _ in range(steps + 2):
        start = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[2:])


def measure(args) -> dict[str, float]:
    """Measure on one rank."""
    from mmpretrain.registry import MODELS
    from mmpretrain.structures import DataSample

    import finola_mm.selfsup  # noqa: F401
    from finola_mm.engine import init_dist

    cfg = Config.fromfile(args.config)
    init_dist(args.launcher, cfg)
    torch.manual_seed(0)
    init_default_scope('mmpretrain')
    model = MODELS.build(cfg.model).to(get_device()).train()
    several = distributed.get_world_size() > 1
    if several:
        model = MMDistributedDataParallel(model, broadcast_buffers=False)
    cfg.optim_wrapper.type = 'OptimWrapper'
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    images = torch.randint(0, 256, (args.batch, 3, args.size, args.size), dtype=torch.uint8)
    side = args.size // 32
    samples = [
        DataSample(metainfo=dict(block_offset=(i % (side + 1), i // 2 % (side + 1))))
        for i in range(args.batch)
    ]
    data = dict(inputs=images, data_samples=samples)
    seconds = dict(step=quickest(lambda: model.train_step(data, optim_wrapper), args.steps))
    if several:
        sizes = [p.numel() * p.element_size() for p in model.parameters() if p.requires_grad]
        seconds['bytes'] = sum(sizes)
        gradients = torch.zeros(sum(sizes) // 4, device=get_device())
        seconds['exchange'] = quickest(lambda: distributed.all_reduce(gradients), args.steps)
        group, one = distributed.new_group(backend='gloo'), torch.zeros(1)
        seconds['one'] = quickest(lambda: distributed.all_reduce(one, group=group), 10 * args.steps)
    distributed.destroy_process_group()
    return seconds


def run(ranks: int) -> dict[str, float]:
    """Return the line of JSON that rank 0 prints."""
    command = [sys.executable, str(ROOT / 'tools/launch.py'), str(ranks), __file__, *sys.argv[1:]]
    command += ['--launcher', 'pytorch']
    env = {**os.environ, 'OMP_NUM_THREADS': '1'}
    out = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(out.splitlines()[-1])


def main():
    args = parse_args()
    if args.launcher != 'none':
        seconds = measure(args)
        if os.environ['RANK'] == '0':
            print(json.dumps(seconds))
        return
    images = f'{args.batch} images of {args.size} x {args.size}'
    print(f'{machine()}; {Path(args.config).name}, {images} per rank')
    one, two = run(1), run(2)
    print(f'step, 1 rank                {one["step"] * 1e3:9.2f} ms')
    print(f'step, 2 ranks               {two["step"] * 1e3:9.2f} ms')
    print(f'ratio                       {two["step"] / one["step"]:9.2f}')
    print(f'gradients                   {two["bytes"] / 1e6:9.2f} MB a step')
    print(f'their all-reduce alone      {two["exchange"] * 1e3:9.2f} ms')
    print(f'all-reduce of one number    {two["one"] * 1e3:9.2f} ms')


if __name__ == '__main__':
    main()
