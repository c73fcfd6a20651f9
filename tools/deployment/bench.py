"""Compare the latency of a model in several formats, and their agreement with PyTorch.

    python tools/deployment/bench.py CONFIG [CHECKPOINT] --size 800 1333 [--threads 1]
    python tools/deployment/bench.py CONFIG CHECKPOINT --formats torch onnx onnx-int8 --images DIR

Without CHECKPOINT the weights are random. The formats take turns on the same images; times are
medians over the turns, and the ratio to PyTorch's is the median of the turns' ratios, since other
load on the machine slows all formats of a turn. PyTorch runs as in our tools
(`finola_mm.apis.optimize_for_cpu`). All formats compute in float32, but for those named int8.

The difference is the largest one relative to the largest value of an output. With --images, equal
labels is the share of images with the same class, or of objects (score at least 0.3 in PyTorch)
with the same label. For int8, the images are split: the first half gives the ranges of
activations, and the second half is compared.
"""

import argparse
import copy
import json
import statistics
import time
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from finola_mm.apis import (
    add_cfg_options,
    check_out,
    command_line,
    int_range,
    load_config,
    optimize_for_cpu,
)
from finola_mm.apis.export import (
    PARTS,
    build_part,
    check_packages,
    export,
    load_images,
    random_images,
    written,
)
from finola_mm.apis.export_formats import (
    LOADERS,
    PACKAGES,
    SUFFIXES,
    largest_difference,
    median_ratio,
    take_turns,
)
from finola_mm.apis.export_layers import Encoder

FORMATS = ('torch', 'torchscript', 'onnx', 'onnx-int8', 'openvino', 'openvino-int8', 'ncnn')
SCORE = 0.3  # of the objects whose labels are compared


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Compare latency and agreement of formats')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file, or work directory')
    parser.add_argument(
        '--part', choices=PARTS, help='default: the detector if there is one, or else the encoder'
    )
    parser.add_argument(
        '--size', type=int_range(32), nargs=2, default=(224, 224), metavar=('H', 'W')
    )
    parser.add_argument('--batch', type=int_range(1), default=1, help='images of a batch')
    parser.add_argument(
        '--formats',
        choices=FORMATS,
        nargs='+',
        help='default: torch, and those of onnx and openvino whose packages are installed',
    )
    parser.add_argument('--threads', type=int_range(1), default=torch.get_num_threads())
    parser.add_argument('--turns', type=int_range(1), default=10, help='timed batches per format')
    parser.add_argument(
        '--cpu-time',
        action='store_true',
        help='measure the CPU time of all threads, for a machine with other load',
    )
    parser.add_argument('--images', help='folder of images on which labels are compared')
    parser.add_argument('--num-images', type=int_range(2), default=200, help='how many of them')
    parser.add_argument('--out', help='file for the results, .json')
    add_cfg_options(parser)
    return parser.parse_args(argv)


def installed_formats() -> list[str]:
    """Return the formats of the default: torch, and those whose packages are installed."""
    found = [f for f in ('onnx', 'openvino') if all(find_spec(name) for name in PACKAGES[f])]
    return ['torch', *found]


def equal_labels(outputs: list[Tensor], expected: list[Tensor]) -> Tensor:
    """Return whether labels are equal, of each image or of each object that PyTorch finds.

    The last output is the probabilities of the classes, (N, classes) or (N, Q, classes).
    """
    scores, labels = expected[-1].max(-1)
    equal = outputs[-1].argmax(-1) == labels
    return equal[scores >= SCORE] if labels.ndim == 2 else equal


def write_and_load(module, name, folder, args, calibration):
    """Export the module in a format; return a function of images and the size in bytes."""
    if name == 'torch':
        served = optimize_for_cpu(copy.deepcopy(module))
        weights = (*module.parameters(), *module.buffers())
        return lambda images: list(served(images)), sum(w.nbytes for w in weights)
    format, _, int8 = name.partition('-')
    file = Path(folder, name).with_suffix(SUFFIXES[format])
    options = dict(int8=bool(int8), calibration=calibration if int8 else None)
    export(copy.deepcopy(module), file, format, size=args.size, batch=args.batch, **options)
    size = sum(f.stat().st_size for f in written(file))
    return LOADERS[format](file, threads=args.threads), size


def measure(module: nn.Module, args: argparse.Namespace) -> list[dict]:
    """Return a row for each format."""
    images = random_images(args.batch, args.size)
    real: tuple[Tensor, ...] = ()
    if args.images:
        real = load_images(args.images, args.size, args.num_images).split(args.batch)
        real = tuple(batch for batch in real if len(batch) == args.batch)
    int8 = any(name.endswith('int8') for name in args.formats)
    calibration, held_out = (real[: len(real) // 2], real[len(real) // 2 :]) if int8 else ((), real)
    with TemporaryDirectory() as folder:
        models = {
            name: write_and_load(module, name, folder, args, calibration or None)
            for name in args.formats
        }
        expected = list(module(images))
        clock = time.process_time if args.cpu_time else time.perf_counter
        times = take_turns(
            {name: lambda m=m: m(images) for name, (m, _) in models.items()}, args.turns, clock
        )
        has_labels = not isinstance(module, Encoder)
        truth = [list(module(batch)) for batch in held_out] if has_labels else []
        rows = []
        for name, (model, size) in models.items():
            outputs = model(images)
            row = dict(
                format=name,
                megabytes=size / 1e6,
                milliseconds=1e3 * statistics.median(times[name]),
                fastest=1e3 * min(times[name]),
                ratio=median_ratio(times[name], times[args.formats[0]]),
                difference=largest_difference(outputs, expected),
            )
            if truth:
                pairs = zip(held_out, truth, strict=True)
                equal = torch.cat([equal_labels(model(batch), wanted) for batch, wanted in pairs])
                row.update(equal_labels=equal.float().mean().item(), labels=len(equal))
            rows.append(row)
    return rows


def table(rows: list[dict]) -> str:
    """Format the rows as Markdown."""
    lines = [
        '| format | MB | ms, median | fastest | time / first | difference | equal labels |',
        '|---|---|---|---|---|---|---|',
    ]
    for row in rows:
        equal = f'{row["equal_labels"]:.1%} of {row["labels"]}' if 'equal_labels' in row else ''
        lines.append(
            f'| {row["format"]} | {row["megabytes"]:.1f} | {row["milliseconds"]:.1f} | '
            f'{row["fastest"]:.1f} | {row["ratio"]:.2f} | {row["difference"]:.0e} | {equal} |'
        )
    return '\n'.join(lines)


@command_line
def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    args.formats = args.formats or installed_formats()
    for name in args.formats:
        if name != 'torch':
            check_packages(name.partition('-')[0])
    out = check_out(args.out, ('.json',)) if args.out else None
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)  # of random weights
    cfg = load_config(args.config, options=args.cfg_options)
    module = build_part(cfg, args.checkpoint, args.part, size=args.size, with_labels=False)
    with torch.no_grad():
        rows = measure(module, args)
    height, width = args.size
    cpu = ', CPU time' if args.cpu_time else ''
    settings = dict(batch=args.batch, size=[height, width], threads=args.threads, turns=args.turns)
    settings['cpu_time'] = args.cpu_time
    print(f'\n{args.batch} x {height} x {width}, {args.threads} threads, {args.turns} turns{cpu}\n')
    print(table(rows))
    if out:
        content = dict(config=args.config, checkpoint=args.checkpoint, **settings, rows=rows)
        out.write_text(json.dumps(content, indent=2) + '\n')


if __name__ == '__main__':
    main()
