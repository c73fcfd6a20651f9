"""Compare the time of a training step of masked FINOLA-B with that of MAE, and split it into parts.

    python benchmarks/pretrain_step.py [--batch 16] [--precision float32] [--compile]

Both train on the same random images with the same size, precision, batch size and fused AdamW, in
turns in one process; a ratio is the median over the turns. MAE is mmpretrain's, with its decoder of
8 blocks of width 512: ViT-B is compared with W2880, ViT-S with W1440 and ViT-Ti with W720. A step
is `train_step`: normalisation, forward and backward pass, optimizer. The second table splits the
same step into parts, forward and backward pass together.
"""

import argparse
import logging
import statistics
import time
from collections import defaultdict
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
from finola_mm.apis import optimize_for_cpu
from finola_mm.apis.trainee import MAE_PEERS, mae_model
from finola_mm.engine.hooks.compile_hook import CPU_OPTIONS

CONFIGS = Path(__file__).parents[1] / 'configs' / 'selfsup'
OURS = {
    'W2880': 'masked_finola_b.py',
    'W1440': 'masked_finola_b_w1440.py',
    'W720': 'masked_finola_b_w720.py',
}


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--pairs', nargs='+', choices=OURS, default=list(OURS))
    parser.add_argument('--batch', type=int, default=8, help='images per step')
    parser.add_argument('--size', type=int, default=256, help='side of an image in pixels')
    parser.add_argument('--precision', choices=['float32', 'bfloat16'], default='bfloat16')
    parser.add_argument('--turns', type=int, default=5, help='timed steps per model')
    parser.add_argument('--compile', action='store_true', help='torch.compile both models')
    return parser.parse_args()


class Trainee:
    """A model, its optimizer, and its parts in the order of the forward pass."""

    def __init__(self, model, parts, args):
        recipe = Config.fromfile(CONFIGS / 'masked_finola_b.py')
        optim = recipe.optim_wrapper.copy()
        optim.optimizer.fused = True
        if args.precision == 'bfloat16':
            optim.type = 'finola_mm.BFloat16OptimWrapper'
        torch.manual_seed(0)
        model = {**model, 'data_preprocessor': recipe.data_preprocessor}
        self.model = optimize_for_cpu(MODELS.build(model).to(get_device())).train()
        self.optim = build_optim_wrapper(self.model, optim)
        self.parts = {name: getattr(self.model, attr) for name, attr in parts.items()}
        if args.compile:
            for part in self.parts.values():
                part.compile(options=CPU_OPTIONS if get_device() == 'cpu' else None)

    def step(self, batch):
        self.model.train_step(batch, self.optim)

    def seconds(self, batch):
        start = now()
        self.step(batch)
        return now() - start


def now():
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def build_pair(name, args):
    peer, arch, width = MAE_PEERS[name]
    ours = Config.fromfile(CONFIGS / OURS[name]).model
    parts = {'encoder': 'backbone', 'FINOLA': 'neck', 'upsampler': 'upsampler'}
    return {
        f'masked FINOLA-B {name}': Trainee(ours, parts, args),
        f'MAE {peer}': Trainee(
            mae_model(arch, width, args.size), {'encoder': 'backbone', 'decoder': 'neck'}, args
        ),
    }


def random_batch(args, generator):
    """Return a batch as of a data loader: uint8 images and data samples, on the CPU."""
    places = args.size // 32 + 1
    offsets = torch.randint(places, (args.batch, 2), generator=generator).tolist()
    shape = (args.batch, 3, args.size, args.size)
    return dict(
        inputs=torch.randint(256, shape, dtype=torch.uint8, generator=generator),
        data_samples=[DataSample(metainfo=dict(block_offset=tuple(o))) for o in offsets],
    )


def take_turns(pair, args):
    """Return model -> seconds of its timed steps."""
    generator = torch.Generator().manual_seed(0)
    times = {name: [] for name in pair}
    for turn in range(-2, args.turns):  # two warm-up turns
        batch = random_batch(args, generator)
        for name in sorted(pair, reverse=turn % 2 == 0):  # alternate the order
            seconds = pair[name].seconds(batch)
            if turn >= 0:
                times[name].append(seconds)
    return times


def split(trainee, args):
    """Return part -> seconds of a step, medians over the turns.

    The clock is read at the borders of the parts: by module hooks in the forward pass, and by hooks
    on the gradients of the parts' outputs in the backward pass.
    """
    spent, last = defaultdict(float), 0.0

    def close(name):  # assign the time since the last reading to ``name``
        nonlocal last
        spent[name] += now() - last
        last = now()

    names = [*trainee.parts, 'loss']
    handles = [trainee.optim.optimizer.register_step_pre_hook(lambda *_: close(names[0]))]
    for i, part in enumerate(trainee.parts.values()):
        before, here, after = ('normalise and crop' if i == 0 else names[i]), names[i], names[i + 1]

        def watch_output(module, inputs, outputs, here=here, after=after):
            close(here)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            next(t for t in outputs if t.requires_grad).register_hook(lambda _: close(after))

        handles += [
            part.register_forward_pre_hook(lambda *_, before=before: close(before)),
            part.register_forward_hook(watch_output),
        ]
    generator = torch.Generator().manual_seed(1)
    turns = []
    for turn in range(args.turns + 1):
        batch = random_batch(args, generator)
        spent.clear()
        last = now()
        trainee.step(batch)
        close('optimizer')
        if turn:
            turns.append(dict(spent))
    for handle in handles:
        handle.remove()
    return {name: statistics.median(t[name] for t in turns) for name in turns[0]}


def main():
    args = parse_args()
    logging.disable(logging.INFO)  # MMEngine logs the options of every parameter
    init_default_scope('mmpretrain')
    print(
        f'{machine()}; batches of {args.batch} images of {args.size} x {args.size}, '
        f'{args.precision}{", compiled" if args.compile else ""}'
    )
    splits = {}
    print(f'\n{"":24}{"s a step":>10}{"images/s":>10}{"ratio":>8}')
    for name in args.pairs:
        pair = build_pair(name, args)
        times = take_turns(pair, args)
        ours, peer = times.values()
        ratio = statistics.median(b / a for a, b in zip(ours, peer, strict=True))
        for row, (model, seconds) in enumerate(times.items()):
            middle = statistics.median(seconds)
            shown = '' if row else f'{ratio:8.2f}'
            print(f'{model:24}{middle:10.3f}{args.batch / middle:10.2f}{shown}', flush=True)
        if not args.compile:
            splits.update({model: split(trainee, args) for model, trainee in pair.items()})
    for model, parts in splits.items():
        total = sum(parts.values())
        shares = '   '.join(f'{name} {100 * t / total:.0f} %' for name, t in parts.items())
        print(f'\n{model}: {total:.3f} s\n    {shares}')


if __name__ == '__main__':
    main()
