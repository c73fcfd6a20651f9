"""Compare the latency of our detectors with that of mmdet's DETR-R50.

    python benchmarks/detector_latency.py [--size 800 1333] [--batches 1 8]
    python benchmarks/detector_latency.py --batches 1 --runtimes torch onnx openvino

The six published sizes (encoders W720, W1440 and W2880 with MF-Dec-211 and MF-Dec-522) and DETR-R50
of mmdet's config, all with random weights, process the same random images without padding.
BatchNorm is folded into convolutions as by --fuse-conv-bn of mmdet's benchmark; multiply-adds are
counted before. On a CPU the C library keeps freed memory (--return-memory: its default).

The time is that of `predict`: from normalised images on the device to boxes, scores and labels.
Each of our models shares a process with DETR-R50 only, and the two take turns. The time ratio is
the median over the turns. If it differs from the ratio of multiply-adds, the machine runs one of
the two models less efficiently.

The runtimes onnx (ONNX Runtime) and openvino run both models exported in the same way, with fixed
sizes, as tools/deployment/export.py writes ours: from normalised images to the logits and boxes of
all queries. All runtimes use as many threads as torch (OMP_NUM_THREADS).
"""

import argparse
import itertools
import logging
import multiprocessing
import os
import statistics
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from machine import machine
from mmcv.cnn import fuse_conv_bn
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hub import get_config
from mmengine.registry import init_default_scope
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import finola_mm.det  # noqa: F401
from finola_mm.apis import optimize_for_cpu
from finola_mm.apis.export_formats import (
    export_onnx,
    largest_difference,
    load_onnx,
    load_openvino,
    median_ratio,
    take_turns,
)
from finola_mm.apis.export_layers import simplify_for_export
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
    parser.add_argument(
        '--runtimes', nargs='+', choices=['torch', 'onnx', 'openvino'], default=['torch']
    )
    parser.add_argument(
        '--cpu-time',
        action='store_true',
        help='measure the CPU time of all threads, for a machine with other load',
    )
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


class Graph(nn.Module):
    """The exported part: normalised images -> logits and boxes of all queries."""

    names = ['logits', 'boxes']

    def __init__(self, model, samples):
        super().__init__()
        self.model, self.samples = model, samples

    def forward(self, images):
        logits, boxes = self.model(images, self.samples, mode='tensor')
        return logits[-1], boxes[-1]


@torch.inference_mode()
def predict(model, images, samples, precision):
    # The model writes its predictions into the samples.
    samples = [sample.clone() for sample in samples]
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == 'bfloat16'):
        model(images, samples, mode='predict')
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def build(name):
    """Build a model with random weights."""
    torch.manual_seed(0)
    return MODELS.build(model_config(name)).to(get_device()).eval().requires_grad_(False)


def load(name, runtime, number, args, folder):
    """Return a model of one runtime as a function without arguments."""
    images, samples = make_batch(number, tuple(args.size), get_device())
    model = build(name)
    if runtime == 'torch':
        model = fuse_conv_bn(optimize_for_cpu(model))
        return lambda: predict(model, images, samples, args.precision)
    file = Path(folder, f'{name} {number}.onnx')
    graph = Graph(simplify_for_export(fuse_conv_bn(model)), samples)
    if not file.exists():
        export_onnx(graph, file, batch=number, size=args.size)
    loader = load_onnx if runtime == 'onnx' else load_openvino
    session = loader(file, threads=torch.get_num_threads())
    with torch.no_grad():
        difference = largest_difference(session(images), graph(images))
    assert difference < 1e-3, f'{name} in {runtime} differs from PyTorch by {difference}'
    return lambda: session(images)


def compare(name, args):
    """Measure one of our models and DETR: [(parameters, multiply-adds)], {setting: seconds}."""
    logging.disable(logging.INFO)
    warnings.simplefilter('ignore')
    init_default_scope('mmdet')
    names = (name, PEER)
    counts = [count(build(n), tuple(args.size)) for n in names]
    times = {}
    with TemporaryDirectory() as folder:
        for number in args.batches:
            settings = [(runtime, n) for runtime in args.runtimes for n in names]
            runs = {s: load(s[1], s[0], number, args, folder) for s in settings}
            clock = time.process_time if args.cpu_time else time.perf_counter
            measured = take_turns(runs, args.turns, clock)
            times |= {(number, *setting): measured[setting] for setting in settings}
    return counts, times


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
        f'{"":16}{"params (M)":>11}{"MAdds (G)":>11}{"batch":>7}{"runtime":>10}{"ms a batch":>12}'
        f'{"range":>16}{"DETR-R50":>10}{"MAdds ratio":>13}{"time ratio":>12}'
    )
    for name in args.models:
        ((params, madds), (_, madds_peer)), times = alone(compare, name, args)
        for number, runtime in itertools.product(args.batches, args.runtimes):
            ours, peer = (times[number, runtime, n] for n in (name, PEER))
            ms, ms_peer = (1e3 * statistics.median(seconds) for seconds in (ours, peer))
            span = f'{1e3 * min(ours):.0f} to {1e3 * max(ours):.0f}'
            print(
                f'{name:16}{params / 1e6:11.1f}{madds / 1e9:11.1f}{number:7}{runtime:>10}{ms:12.0f}'
                f'{span:>16}{ms_peer:10.0f}{madds / madds_peer:13.2f}'
                f'{median_ratio(ours, peer):12.2f}',
                flush=True,
            )


if __name__ == '__main__':
    main()
