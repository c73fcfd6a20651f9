"""What does a step of pre-training cost with two processes, beside one, and what do they exchange?

    python benchmarks/two_processes.py [--config configs/demo/masked_finola_b.py] [--batch 16]

Each process has one thread and trains the same number of images, random ones, in float32. The rows
are the whole step of the runner (DDP with two processes: gradients are exchanged while the backward
pass goes on), the exchange of as many bytes alone, and the reduction of one number that asks
before each update whether a signal came. Smallest times: other work of the machine counts least.
With GPUs the processes exchange by NCCL, without by gloo over the loopback.
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
    parser.add_argument('--batch', type=int, default=16, help='images of a process')
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
    """In each of the processes."""
    from mmpretrain.registry import MODELS
    from mmpretrain.structures import DataSample

    import finola_mm.selfsup  # noqa: F401
    from finola_mm.engine import Processes

    processes = Processes(args.launcher)
    with processes.one_voice():
        cfg = Config.fromfile(args.config)
        processes.join(cfg)
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
            seconds['one'] = quickest(
                lambda: distributed.all_reduce(one, group=group), 10 * args.steps
            )
        return seconds


def run(processes: int) -> dict[str, float]:
    """The line of JSON that process 0 prints."""
    script = os.path.relpath(__file__, ROOT / 'tools')
    command = [str(ROOT / 'tools/launch/launch.sh'), str(processes), script, *sys.argv[1:]]
    env = {**os.environ, 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1'}
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
    print(f'{machine()}; {Path(args.config).name}, {images} a process')
    one, two = run(1), run(2)
    print(f'step, 1 process             {one["step"] * 1e3:9.2f} ms')
    print(f'step, 2 processes           {two["step"] * 1e3:9.2f} ms')
    print(f'ratio                       {two["step"] / one["step"]:9.2f}')
    print(f'gradients                   {two["bytes"] / 1e6:9.2f} MB a step')
    print(f'their exchange alone        {two["exchange"] * 1e3:9.2f} ms')
    print(f'the reduction of one number {two["one"] * 1e3:9.2f} ms')


if __name__ == '__main__':
    main()
