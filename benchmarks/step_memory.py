"""Measure the memory of a training step of FINOLA on its largest feature map.

    python benchmarks/step_memory.py [--archs w2880 w720] [--batch 8] [--threads 2]

Each encoder trains for two steps of `configs/selfsup/finola_r256.py` (a map of 256 x 256 positions,
C = 128, float32, AdamW) on random images, in a fresh process. The second step starts with the
optimizer's state. The result is the peak of resident memory, libraries included (Linux), or on a
GPU of CUDA tensors.
"""

import argparse
import logging
import resource
from multiprocessing import get_context
from pathlib import Path

import torch
from machine import machine
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

import finola_mm.selfsup  # noqa: F401

CONFIG = Path(__file__).parents[1] / 'configs' / 'selfsup' / 'finola_r256.py'
WIDTHS = {'w2880': 2880, 'w1440': 1440, 'w720': 720}  # the encoder's output, Table 9


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--archs', nargs='+', choices=WIDTHS, default=['w2880', 'w720'])
    parser.add_argument('--batch', type=int, default=8, help='images per step')
    parser.add_argument('--threads', type=int, default=2)
    return parser.parse_args()


def peak_gib(arch, batch, threads):
    """Return the peak memory of this process after two steps, in GiB."""
    logging.disable(logging.INFO)  # MMEngine logs the options of every parameter
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    init_default_scope('mmpretrain')
    config = Config.fromfile(CONFIG)
    config.model.backbone.arch = arch
    config.model.neck.in_channels = WIDTHS[arch]
    model = MODELS.build(config.model).to(get_device()).train()
    optim = build_optim_wrapper(model, config.optim_wrapper)
    for _ in range(2):
        images = torch.randint(256, (batch, 3, 256, 256), dtype=torch.uint8)
        model.train_step(dict(inputs=images, data_samples=[DataSample() for _ in images]), optim)
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    # In KiB on Linux. The memory inherited from the parent process is far below that of a step.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main():
    args = parse_args()
    print(f'{machine()}; batches of {args.batch}, {CONFIG.name}, float32')
    for arch in args.archs:
        with get_context('spawn').Pool(1) as pool:
            print(
                f'{arch:8}{pool.apply(peak_gib, (arch, args.batch, args.threads)):8.2f} GiB',
                flush=True,
            )


if __name__ == '__main__':
    main()
