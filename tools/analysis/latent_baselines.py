"""Evaluate PCA, DCT and autoencoder baselines with the same latent size as FINOLA.

    python tools/analysis/latent_baselines.py --train data/imagenet/train --val data/imagenet/val \\
        --latent 64 128 256 --size 96 --out work_dirs/baselines.csv

The table lists PSNR and SSIM of the validation images for K numbers per image and each method:
    pca            K coefficients of a principal component analysis of the training images
    dct P fixed    K coefficients of the cosine transform of P x P patches, at the K positions
                   (patch, colour, frequency) of largest variance over the training images
    dct P largest  the K largest coefficients of each image. Their positions are not counted; to
                   count each position as one number, use the row with half the number
    autoencoder    a plain convolutional autoencoder, trained by this tool; see ConvAutoencoder
Data shared by all images does not count: the mean training image (subtracted by PCA and DCT), the
principal components, the fixed positions and the autoencoder's weights. Numbers are not quantized.
The shorter side of each image is resized and the image is cropped, as in the configs' test
pipelines. Where there are few large photographs, --crops trains on random crops of them instead.
--save writes what PCA and DCT learned to a file, which --train accepts in place of the images.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.dataset import Compose
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from finola_mm.apis import check_out, command_line, int_range, progress, write_csv
from finola_mm.datasets import evenly_spaced, find_images
from finola_mm.errors import UserError
from finola_mm.evaluation import psnr, ssim
from finola_mm.evaluation.pca_dct import (
    Fitted,
    dct_fixed,
    dct_largest,
    fit,
    load_fitted,
    pca,
    save_fitted,
)

METHODS = ('pca', 'dct', 'autoencoder')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Evaluate baselines with the same latent size as FINOLA'
    )
    parser.add_argument(
        '--train', required=True, help='folder of training images, or a file written by --save'
    )
    parser.add_argument(
        '--val', required=True, nargs='+', help='images to evaluate: files and folders'
    )
    parser.add_argument('--latent', required=True, nargs='+', type=int_range(1), metavar='K')
    parser.add_argument(
        '--size', type=int_range(16), default=64, help='image size, a multiple of 16'
    )
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=METHODS)
    parser.add_argument(
        '--patch', nargs='+', type=int_range(1), help='patch sizes; default: 8, --size'
    )
    parser.add_argument(
        '--max-train', type=int_range(1), default=5000, help='maximum number of images'
    )
    parser.add_argument(
        '--crops',
        type=int_range(1),
        metavar='N',
        help='train on N random crops of each image, as configs/photos/finola.py does',
    )
    parser.add_argument(
        '--max-val', type=int_range(1), default=1000, help='maximum number of images'
    )
    parser.add_argument('--steps', type=int_range(1), default=3000, help='steps of the autoencoder')
    parser.add_argument(
        '--batch-size', type=int_range(1), default=64, help='batch size of the autoencoder'
    )
    parser.add_argument('--lr', type=float, default=1e-3, help='learning rate of the autoencoder')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', help='also write the table to this .csv file')
    parser.add_argument(
        '--save', metavar='FILE', help='write the fitted PCA and DCT to this .safetensors file'
    )
    args = parser.parse_args(argv)
    args.patch = args.patch or sorted({8, args.size})
    return args


def check_sizes(args: argparse.Namespace) -> None:
    if args.size % 16:
        raise UserError(f'--size must be a multiple of 16, got {args.size}')
    numbers = 3 * args.size**2
    if max(args.latent) > numbers:
        raise UserError(
            f'--latent must be at most {numbers}, the number of values of an image of --size '
            f'{args.size}, got {max(args.latent)}'
        )
    for patch in args.patch:
        if args.size % patch:
            raise UserError(f'--patch must divide --size {args.size}, got {patch}')


def centre(size: int) -> list[dict]:
    """Return the transforms of the configs' test pipelines."""
    return [
        dict(type='finola_mm.LoadImageFromFile'),
        dict(type='ResizeEdge', scale=size, backend='pillow', interpolation='bicubic'),
        dict(type='CenterCrop', crop_size=size),
    ]


def random_crop(size: int) -> list[dict]:
    """Return the transforms of the training pipeline of configs/photos/finola.py."""
    crop = dict(scale=size, crop_ratio_range=(0.05, 1.0), interpolation='bicubic')
    return [
        dict(type='finola_mm.LoadRandomResizedCrop', **crop),
        dict(type='RandomFlip', prob=0.5),
    ]


def load_images(paths: list[str], transforms: list[dict], limit: int, crops: int = 1) -> Tensor:
    """Load at most ``limit`` images, evenly spaced, as RGB (N, 3, size, size) in [0, 1].

    Each is transformed ``crops`` times.
    """
    files = find_images(paths)
    files = [files[i] for i in evenly_spaced(len(files), limit)]
    load = Compose(transforms)
    images = []
    for file in progress(files, f'reading {len(files)} images of {paths[0]}'):
        try:
            pixels = [load(dict(img_path=str(file)))['img'] for _ in range(crops)]
        except Exception as error:  # decoders raise different types
            print(f'skipped: {file} cannot be read as an image ({error!r})')
        else:
            images += [torch.from_numpy(bgr[..., ::-1].copy()).permute(2, 0, 1) for bgr in pixels]
    if not images:
        raise UserError(f'none of the {len(files)} images of {paths[0]} can be read')
    return torch.stack(images).float() / 255


def check_fitted(fitted: Fitted, args: argparse.Namespace) -> None:
    """Check that a file written by --save has what the options require."""
    size, found = fitted['mean'].shape[-1], sorted(int(k[4:]) for k in fitted if 'dct_' in k)
    if size != args.size or not {*args.patch} <= {*found} or 'autoencoder' in args.methods:
        raise UserError(
            f'{args.train} has pca and dct (no autoencoder) for --size {size} and --patch {found}; '
            f'got --size {args.size}, --patch {args.patch}, --methods {" ".join(args.methods)}'
        )


# ----------------------------------------------------------------------------- autoencoder
class ConvAutoencoder(nn.Module):
    """Encode images (N, 3, S, S) as k numbers each and decode them.

    Input and output are normalized to about [-1, 1].

    Encoder: four 4 x 4 convolutions of stride 2 to 32, 64, 128 and 256 channels, each with ReLU,
    then one linear layer from the S/16 x S/16 x 256 features to k. The decoder mirrors it with
    transposed convolutions. There are no normalization layers and no skip connections.
    """

    WIDTHS = (32, 64, 128, 256)

    def __init__(self, k: int, size: int):
        super().__init__()
        widths, side = (3, *self.WIDTHS), size // 16
        encoder, decoder = [], []
        for i in range(4):
            encoder += [nn.Conv2d(widths[i], widths[i + 1], 4, 2, 1), nn.ReLU()]
            decoder = [nn.ReLU(), nn.ConvTranspose2d(widths[i + 1], widths[i], 4, 2, 1), *decoder]
        features = widths[-1] * side**2
        self.encoder = nn.Sequential(*encoder, nn.Flatten(), nn.Linear(features, k))
        self.decoder = nn.Sequential(
            nn.Linear(k, features), nn.Unflatten(1, (widths[-1], side, side)), *decoder
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


def autoencoder(
    train: Tensor, k: int, *, steps: int, batch_size: int, lr: float, seed: int
) -> Callable[[Tensor, int], Tensor]:
    """Train a ConvAutoencoder.

    It uses AdamW, a weight decay of 0.01, a warm-up of 5 %, a cosine schedule and random flips.
    """
    torch.manual_seed(seed)
    device = get_device()
    model = ConvAutoencoder(k, train.shape[-1]).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for step in progress(range(steps), f'training an autoencoder with latent size {k}'):
        warm_up = min(1, (step + 1) / (0.05 * steps))
        optimizer.param_groups[0]['lr'] = lr * warm_up * (1 + math.cos(math.pi * step / steps)) / 2
        batch = train[torch.randint(len(train), (batch_size,))]
        flipped = torch.rand(batch_size) < 0.5
        batch[flipped] = batch[flipped].flip(-1)
        x = 2 * batch.to(device) - 1
        loss = F.mse_loss(model(x), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def reconstruct(images, k):
        parts = (model(2 * part.to(device) - 1).cpu() for part in images.split(batch_size))
        return (torch.cat(list(parts)) + 1) / 2

    return reconstruct


# ----------------------------------------------------------------------------- table
def baselines(
    args: argparse.Namespace, fitted: Fitted, train: Tensor | None
) -> Iterator[tuple[str, int, Callable]]:
    """Yield (name, k, function of images and k) in the order of the table's rows."""
    if 'pca' in args.methods:
        count = len(fitted['components'])
        for k in args.latent:
            if k <= count:
                yield 'pca', k, pca(fitted)
            else:
                found = f'{args.train} has {count} components'
                if train is not None:
                    found = f'it requires more than {k} training images, got {len(train)}'
                print(f'pca with {k} numbers skipped: {found}')
    if 'dct' in args.methods:
        for patch in args.patch:
            for name, kept in (('fixed', dct_fixed), ('largest', dct_largest)):
                yield from ((f'dct {patch} {name}', k, kept(fitted, patch)) for k in args.latent)
    if 'autoencoder' in args.methods:
        settings = dict(steps=args.steps, batch_size=args.batch_size, lr=args.lr, seed=args.seed)
        for k in args.latent:
            yield 'autoencoder', k, autoencoder(train, k, **settings)


def score(reconstructions: Tensor, images: Tensor) -> tuple[float, float]:
    """Return PSNR in dB and SSIM, averaged over images (N, 3, H, W)."""
    pairs = zip(reconstructions, images, strict=True)
    values = [(psnr(*pair).item(), ssim(*pair)) for pair in pairs]
    return tuple(torch.tensor(values, dtype=torch.float64).mean(0).tolist())


@command_line
def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    init_default_scope('mmpretrain')
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    check_sizes(args)
    if args.out:
        check_out(args.out, ('.csv',))
    if args.save:
        check_out(args.save, ('.safetensors',))
    if Path(args.train).is_file():
        train, fitted = None, load_fitted(args.train)
        check_fitted(fitted, args)
    else:
        transforms = random_crop(args.size) if args.crops else centre(args.size)
        train = load_images([args.train], transforms, args.max_train, args.crops or 1)
        fitted = fit(train, args.latent, args.patch)
    if args.save:
        save_fitted(fitted, args.save)
    val = load_images(args.val, centre(args.size), args.max_val)
    source = args.train if train is None else f'{len(train)} training'
    print(f'{source} and {len(val)} val images of {args.size} x {args.size}, seed {args.seed}')
    if 'autoencoder' in args.methods:
        print(f'autoencoder: {args.steps} steps of {args.batch_size}')
    print(f'\n| {"method":16} | latent size | PSNR, dB | SSIM  |\n|---|---|---|---|', flush=True)
    common = dict(
        size=args.size,
        train_images='' if train is None else len(train),
        val_images=len(val),
        seed=args.seed,
        steps='',
    )
    rows = []
    for method, k, reconstruct in baselines(args, fitted, train):
        quality = score(reconstruct(val, k), val)
        print(f'| {method:16} | {k:11} | {quality[0]:8.2f} | {quality[1]:.3f} |', flush=True)
        rows.append(dict(method=method, latent=k, psnr=quality[0], ssim=quality[1], **common))
        if method == 'autoencoder':
            rows[-1]['steps'] = args.steps
        if args.out:  # after each row, so that an interrupted run keeps its results
            write_csv(args.out, rows)


if __name__ == '__main__':
    main()
