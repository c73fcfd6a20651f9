"""Overfit one batch of images with parts of FINOLA replaced, to see which part limits it.

    python studies/overfit.py data/photos/photos/train --channels 256 --latent free --out found.json

Each image of 64 x 64 pixels has one latent vector of C numbers:
    --latent encoder     q is pooled from the encoder's map
    --latent free        q is a trained parameter, with 10 times the learning rate
The vector becomes a map of 16 x 16 positions:
    --map finola         the recurrence
    --map waves          the recurrence, started as plane waves (max_frequency of FINOLANeck)
    --map linear         one linear layer: any C maps, with 64 times the recurrence's parameters
The map becomes an image:
    --upsampler conv     that of configs/study/reconstruction.py
    --upsampler linear   a linear layer from a position to its 4 x 4 pixels
--latent autoencoder trains the convolutional autoencoder of tools/analysis/latent_baselines.py.

AdamW without weight decay, a warm-up of 20 steps and a cosine schedule, all images in every batch,
normalization in training mode. The file holds the PSNR after some of the steps, in dB.
"""

import argparse
import json
import math
import statistics
import sys
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from finola_mm.apis import load_config, progress
from finola_mm.evaluation import psnr
from finola_mm.necks import PatchUpsampler
from finola_mm.registry import MODELS

sys.path.append('tools/analysis')
from latent_baselines import ConvAutoencoder, centre, load_images

CONFIG = 'configs/study/reconstruction.py'
SIZE, MAP = 64, 16  # pixels, positions
WARM_UP = 20  # steps
MAX_FREQUENCY = 2.0  # radians per position
REPORTED = (50, 100, 200, 400)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Overfit one batch of images')
    parser.add_argument('images', help='folder of images')
    parser.add_argument('--channels', type=int, default=256, help='C; default: 256')
    parser.add_argument('--latent', choices=('encoder', 'free', 'autoencoder'), default='encoder')
    parser.add_argument('--map', choices=('finola', 'waves', 'linear'), default='finola')
    parser.add_argument('--upsampler', choices=('conv', 'linear'), default='conv')
    parser.add_argument('--batch-size', type=int, default=16)
    parser.add_argument('--steps', type=int, default=400)
    parser.add_argument('--lr', type=float, default=1e-3)
    parser.add_argument(
        '--matrices-lr', type=float, default=1.0, help="factor of the matrices' lr; default: 1"
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', help='write the PSNR to this .json file')
    return parser.parse_args()


class LinearMap(nn.Linear):
    """Any C maps of 16 x 16 positions in place of the recurrence, called as ``FINOLALayer`` is."""

    def __init__(self, channels: int):
        super().__init__(channels, channels * MAP**2)

    def forward(self, q: Tensor, size: tuple[int, int], origin: None) -> Tensor:
        """(N, 1, C) -> (N, C, 16, 16)."""
        return super().forward(q.flatten(1)).unflatten(1, (-1, *size))


def build_finola(args: argparse.Namespace) -> nn.Module:
    """Build the model of CONFIG with C channels, and replace its parts."""
    channels = args.channels
    options = {'model.neck.channels': channels, 'model.upsampler.in_channels': channels}
    if args.map == 'waves':
        options['model.neck.max_frequency'] = MAX_FREQUENCY
    model = MODELS.build(load_config(CONFIG, options=options).model)
    if args.map == 'linear':
        model.neck.finola = LinearMap(channels)
    if args.upsampler == 'linear':
        model.upsampler = PatchUpsampler(channels, patch_size=SIZE // MAP)
    return model


def overfit(args: argparse.Namespace, images: Tensor) -> dict[int, float]:
    """Train on ``images`` (N, 3, 64, 64), RGB in [0, 1] -> {steps: PSNR in dB}."""
    torch.manual_seed(args.seed)
    if args.latent == 'autoencoder':
        model = predict = ConvAutoencoder(args.channels, SIZE)
        mean, std = 0.5, 0.5
    else:
        model = build_finola(args)
        mean, std = (getattr(model.data_preprocessor, name) / 255 for name in ('mean', 'std'))
        predict = model.reconstruct
    groups = parameter_groups(model, args)
    if args.latent == 'free':
        q = nn.Parameter(torch.randn(len(images), 1, args.channels))
        groups.append(dict(params=q, lr=10 * args.lr))

        def predict(images: Tensor) -> Tensor:
            return model.decode(q)

    target = (images - mean) / std
    optimizer = torch.optim.AdamW(groups, args.lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(learning_rate, args.steps))
    found = {}
    for step in progress(range(1, args.steps + 1), 'overfitting'):
        pred = predict(target)
        optimizer.zero_grad()
        F.mse_loss(pred, target).backward()
        optimizer.step()
        schedule.step()
        if step in REPORTED:
            pixels = pred.detach() * std + mean
            found[step] = statistics.mean(
                psnr(*pair).item() for pair in zip(pixels, images, strict=True)
            )
    return found


def parameter_groups(model: nn.Module, args: argparse.Namespace) -> list[dict]:
    """Give the matrices of the recurrence their own learning rate."""
    matrices = [p for name, p in model.named_parameters() if 'finola' in name]
    others = [p for name, p in model.named_parameters() if 'finola' not in name]
    return [dict(params=others), dict(params=matrices, lr=args.matrices_lr * args.lr)]


def learning_rate(steps: int, step: int) -> float:
    """Return the factor of a warm-up and a cosine schedule."""
    return min(1, (step + 1) / WARM_UP) * (1 + math.cos(math.pi * step / steps)) / 2


def main() -> None:
    args = parse_args()
    init_default_scope('mmpretrain')
    images = load_images([args.images], centre(SIZE), args.batch_size)
    found = overfit(args, images)
    print(json.dumps(found))
    if args.out:
        Path(args.out).write_text(json.dumps(found))


if __name__ == '__main__':
    main()
