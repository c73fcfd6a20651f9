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
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from finola_mm.apis import check_out, command_line, int_range, progress, write_csv
from finola_mm.datasets import evenly_spaced, find_images
from finola_mm.errors import UserError
from finola_mm.evaluation import psnr, ssim

Fitted = dict[str, Tensor]  # mean (3, H, W), components (K, D), dct_PATCH: order of positions (D,)
METHODS = ('pca', 'dct', 'autoencoder')
EXACT = 5000  # PCA is exact up to this number of images or pixels, else randomized (4 iterations)
# Orthonormal: luminance, red-blue and green-magenta are nearly uncorrelated in photographs.
COLOURS = torch.tensor([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / torch.tensor([[3], [2], [6]]).sqrt()


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


# ----------------------------------------------------------------------------- PCA
def principal_components(x: Tensor, k: int) -> Tensor:
    """Compute the first k principal directions of centred data: (N, D) -> (k, D), orthonormal."""
    n, d = x.shape
    if min(n, d) > EXACT:
        return torch.svd_lowrank(x, q=min(k + 16, n, d), niter=4)[2][:, :k].mT
    gram = torch.zeros(min(n, d), min(n, d), dtype=torch.float64)  # float32 would lose small values
    for part in x.split(4096, dim=int(n <= d)):
        part = part.double()
        gram += part @ part.mT if n <= d else part.mT @ part
    values, vectors = torch.linalg.eigh(gram)  # ascending
    values, vectors = values[-k:].flip(0), vectors[:, -k:].flip(1)
    if n > d:
        return vectors.mT.to(x.dtype)
    return ((vectors / values.clamp(min=values[0] * 1e-14).sqrt()).mT @ x.double()).to(x.dtype)


def pca(fitted: Fitted) -> Callable[[Tensor, int], Tensor]:
    """Return a function of images (N, 3, H, W) and k up to the number of components."""
    mean, basis = fitted['mean'].flatten(), fitted['components'].float()  # (D,), (K, D)

    def reconstruct(images, k):
        q = (images.flatten(1) - mean) @ basis[:k].mT  # (N, k)
        return (mean + q @ basis[:k]).view_as(images)

    return reconstruct


# ----------------------------------------------------------------------------- DCT
def dct_matrix(n: int) -> Tensor:
    """Return the orthonormal DCT-II, (n, n), one row per frequency."""
    k, x = torch.arange(n)[:, None], torch.arange(n)[None]
    matrix = torch.cos(math.pi * (x + 0.5) * k / n) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


def dct(images: Tensor, patch: int) -> Tensor:
    """Apply the orthonormal DCT to patches: (N, 3, H, W) -> (N, 3, H/p, p, W/p, p)."""
    x = images.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))
    d = dct_matrix(patch)
    return torch.einsum('kc,uy,vx,nciyjx->nkiujv', COLOURS, d, d, x)


def inverse_dct(coefficients: Tensor) -> Tensor:
    d = dct_matrix(coefficients.shape[-1])
    x = torch.einsum('kc,uy,vx,nkiujv->nciyjx', COLOURS, d, d, coefficients)
    return x.flatten(4, 5).flatten(2, 3)


def dct_order(centred: Tensor, patch: int) -> Tensor:
    """Sort the positions (patch, colour, frequency) by decreasing variance, (3 * H * W,)."""
    variance = dct(centred, patch).flatten(1).square().mean(0)
    return variance.argsort(descending=True).int()


def dct_fixed(fitted: Fitted, patch: int) -> Callable[[Tensor, int], Tensor]:
    """Keep the k positions of largest variance over the training images."""
    mean, order = fitted['mean'], fitted[f'dct_{patch}'].long()

    def reconstruct(images, k):
        coefficients = dct(images - mean, patch)
        kept = torch.zeros_like(coefficients[0].flatten()).index_fill_(0, order[:k], 1)
        return mean + inverse_dct(coefficients * kept.view_as(coefficients[0]))

    return reconstruct


def dct_largest(fitted: Fitted, patch: int) -> Callable[[Tensor, int], Tensor]:
    """Keep the k largest coefficients of each image."""
    mean = fitted['mean']

    def reconstruct(images, k):
        coefficients = dct(images - mean, patch)
        flat = coefficients.flatten(1)
        kept = torch.zeros_like(flat).scatter_(1, flat.abs().topk(k).indices, 1)
        return mean + inverse_dct((flat * kept).view_as(coefficients))

    return reconstruct


# ----------------------------------------------------------------------------- what is fitted
def fit(train: Tensor, latents: list[int], patches: list[int]) -> Fitted:
    """Fit PCA and DCT to images (N, 3, H, W).

    PCA has as many components as the largest of ``latents`` that is smaller than N.
    """
    mean = train.mean(0)
    centred = train - mean
    count = max((k for k in latents if k < len(train)), default=0)
    fitted = {f'dct_{patch}': dct_order(centred, patch) for patch in patches}
    components = principal_components(centred.flatten(1), count) if count else train[:0].flatten(1)
    return dict(mean=mean, components=components, **fitted)


def read_fitted(file: Path, args: argparse.Namespace) -> Fitted:
    """Read a file written by --save and check that it has what the options require."""
    try:
        fitted = load_file(file)
        size, found = fitted['mean'].shape[-1], sorted(int(k[4:]) for k in fitted if 'dct_' in k)
    except (OSError, KeyError, SafetensorError) as error:
        raise UserError(f'{file} was not written by --save: {error!r}') from None
    if size != args.size or not {*args.patch} <= {*found} or 'autoencoder' in args.methods:
        raise UserError(
            f'{file} has pca and dct (no autoencoder) for --size {size} and --patch {found}; got '
            f'--size {args.size}, --patch {args.patch}, --methods {" ".join(args.methods)}'
        )
    return fitted


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
        train, fitted = None, read_fitted(Path(args.train), args)
    else:
        transforms = random_crop(args.size) if args.crops else centre(args.size)
        train = load_images([args.train], transforms, args.max_train, args.crops or 1)
        fitted = fit(train, args.latent, args.patch)
    if args.save:
        save_file({**fitted, 'components': fitted['components'].half()}, args.save)
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
