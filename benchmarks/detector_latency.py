"""Compare the latency of our detectors with that of mmdet's DETR-R50.

    python benchmarks/detector_latency.py [--size 800 1333] [--batches 1 8]

The six published sizes (encoders W720, W1440 and W2880 with MF-Dec-211 and MF-Dec-522) and DETR-R50
of mmdet's config, all with random weights, process the same random images without padding.
BatchNorm is folded into convolutions as by --fuse-conv-bn of mmdet's benchmark; multiply-adds are
counted before. On a CPU the C library keeps freed memory (--return-memory: its default).

The time is that of `predict`: from normalised images on the device to boxes, scores and labels.
Each of our models shares a process with DETR-R50 only, and the two take turns. The time ratio is
the median over the turns. If it differs from the ratio of multiply-adds, the machine runs one of
the two models less efficiently.
"""

import argparse
import logging
import multiprocessing
import os
import statistics
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from machine import machine
from mmcv.cnn import fuse_conv_bn
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hub import get_config
from mmengine.registry import init_default_scope
from torch.utils.flop_counter import FlopCounterMode

import finola_mm.det  # noqa: F401
from finola_mm.apis import optimize_for_cpu
from finola_mm.functional.compat import math_attention

CONFIGS = Path(__file__).parents[1] / 'configs' / 'det'
PEER = 'DETR-R50'
MALLOC = {'MALLOC_MMAP_THRESHOLD_': '4294967296', 'MALLOC_TRIM_THRESHOLD_': '8589934592'}
OURS = {
    f'MF-{width} + {decoder}': f'detr_mf_dec{decoder}{suffix}.py'
    for width, suffix in (('W720', '_w720'), ('W1440', '_w1440'), ('W2880', ''))
    for decoder in ('211', '522')
}


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--size', type=int, nargs=2, default=(800, 1333), metavar=('H', 'W'))
    parser.add_argument('--batches', type=int, nargs='+', default=[1, 8], help='images per batch')
    parser.add_argument('--models', nargs='+', choices=OURS, default=list(OURS))
    parser.add_argument('--turns', type=int, default=5, help='timed batches per model')
    parser.add_argument('--precision', choices=['float32', 'bfloat16'], default='float32')
    parser.add_argument(
        '--return-memory',
        action='store_true',
        help='let the C library return freed memory to the system',
    )
    return parser.parse_args()


def model_config(name):
    if name == PEER:
        model = get_config('mmdet::detr/detr_r50_8xb2-150e_coco.py').model
        model.backbone.init_cfg = None  # no download
        return model
    return Config.fromfile(CONFIGS / OURS[name]).model


def make_batch(number, size, device):
    """Return random normalised images (N, 3, H, W) and their data samples."""
    metainfo = dict(
        img_shape=size,
        ori_shape=size,
        pad_shape=size,
        batch_input_shape=size,
        scale_factor=(1.0, 1.0),
    )
    images = torch.randn(number, 3, *size, device=device)
    return images, [DetDataSample(metainfo=metainfo) for _ in range(number)]


def count(model, size):
    """Return parameters, and multiply-adds of one image, attention products included."""
    model.requires_grad_(False)  # the counter's module hooks fail under torch.no_grad()
    images, samples = make_batch(1, size, get_device())
    with FlopCounterMode(display=False) as counter, math_attention():
        model(images, samples, mode='tensor')
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() / 2


@torch.inference_mode()
def seconds(model, images, samples, precision):
    # The model writes its predictions into the samples: use copies, made outside the measured time.
    samples = [sample.clone() for sample in samples]
    device = images.device.type
    wait()
    start = time.perf_counter()
    with torch.autocast(device, torch.bfloat16, enabled=precision == 'bfloat16'):
        model(images, samples, mode='predict')
    wait()
    return time.perf_counter() - start


def wait():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def take_turns(models, number, args):
    """Return model -> seconds in each turn."""
    images, samples = make_batch(number, tuple(args.size), get_device())
    times = {name: [] for name in models}
    for turn in range(-1, args.turns):  # one warm-up turn
        for name in sorted(models, reverse=turn % 2 == 0):  # alternate the order
            spent = seconds(models[name], images, samples, args.precision)
            if turn >= 0:
                times[name].append(spent)
    return times


def compare(name, args):
    """Measure one of our models and DETR: parameters, multiply-adds, {batch size: seconds}."""
    logging.disable(logging.INFO)
    warnings.simplefilter('ignore')
    init_default_scope('mmdet')
    torch.manual_seed(0)
    models = {
        n: optimize_for_cpu(MODELS.build(model_config(n)).to(get_device()).eval())
        for n in (name, PEER)
    }
    counts = [count(model, tuple(args.size)) for model in models.values()]
    models = {n: fuse_conv_bn(model) for n, model in models.items()}
    times = {number: take_turns(models, number, args) for number in args.batches}
    return [
        (*counts[i], {number: times[number][n] for number in args.batches})
        for i, n in enumerate(models)
    ]


def alone(function, *args):
    """Call a function in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn')) as pool:
        return pool.submit(function, *args).result()


def main():
    args = parse_args()
    if not args.return_memory:
        os.environ.update({**MALLOC, **os.environ})  # read by the C library of new processes
    height, width = args.size
    print(
        f'{machine()}; images of {height} x {width}, {args.precision}, {args.turns} turns\n\n'
        f'{"":16}{"params (M)":>11}{"MAdds (G)":>11}{"batch":>7}{"ms a batch":>12}{"range":>16}'
        f'{"DETR-R50":>10}{"MAdds ratio":>13}{"time ratio":>12}'
    )
    for name in args.models:
        (params, madds, ours), (_, madds_peer, peer) = alone(compare, name, args)
        for number in args.batches:
            pairs = zip(ours[number], peer[number], strict=True)
            ratio = statistics.median(a / b for a, b in pairs)
            ms, ms_peer = (1e3 * statistics.median(times[number]) for times in (ours, peer))
            span = f'{1e3 * min(ours[number]):.0f} to {1e3 * max(ours[number]):.0f}'
            print(
                f'{name:16}{params / 1e6:11.1f}{madds / 1e9:11.1f}{number:7}{ms:12.0f}{span:>16}'
                f'{ms_peer:10.0f}{madds / madds_peer:13.2f}{ratio:12.2f}',
                flush=True,
            )


if __name__ == '__main__':
    main()
