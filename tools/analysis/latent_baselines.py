"""What do the plainest codes make of the same images with as many numbers as the latent vector?

    python tools/analysis/latent_baselines.py --train data/imagenet/train --val data/imagenet/val \\
        --latent 64 128 256 --size 96 --out work_dirs/baselines.csv

PSNR and SSIM on the val images, for K numbers per image and every method:
    pca            K coefficients of a principal component analysis of the training images
    dct P fixed    K coefficients of the cosine transform of P x P patches, at the K places (patch,
                   colour, frequency) that vary most over the training images
    dct P largest  the K largest coefficients of each image by itself. Which ones they are is not
                   counted; who counts a place as one number more reads the row of half as many
    autoencoder    a plain convolutional one, trained here; see ConvAutoencoder
What all images share is not counted: the mean training image, which PCA and DCT code the difference
to, the principal components, the places, the autoencoder's weights. Numbers are not quantised.
Images are resized by their short side and cropped, as in the configs' test pipelines.
"""

import argparse
import csv
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.dataset import Compose
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.utils import track_iter_progress
from torch import Tensor, nn

from finola_mm.datasets import find_images
from finola_mm.evaluation import psnr, ssim

METHODS = ('pca', 'dct', 'autoencoder')
EXACT = 5000  # images or pixels up to which PCA is exact; above it is randomised, 4 iterations
# Orthonormal: luminance, red-blue, green-magenta, in which photographs are nearly uncorrelated.
COLOURS = torch.tensor([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / torch.tensor([[3], [2], [6]]).sqrt()


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Baselines of the same latent size')
    parser.add_argument('--train', required=True, help='folder of images to fit to')
    parser.add_argument('--val', required=True, help='folder of images to score on')
    parser.add_argument('--latent', required=True, nargs='+', type=int, metavar='K')
    parser.add_argument('--size', type=int, default=64, help='side of the images, times 16')
    parser.add_argument('--methods', nargs='+', choices=METHODS, default=METHODS)
    parser.add_argument('--patch', nargs='+', type=int, help='DCT patches; default: 8 and --size')
    parser.add_argument('--max-train', type=int, default=5000, help='at most so many images')
    parser.add_argument('--max-val', type=int, default=1000, help='at most so many images')
    parser.add_argument('--steps', type=int, default=3000, help="the autoencoder's training")
    parser.add_argument('--batch-size', type=int, default=64, help="the autoencoder's")
    parser.add_argument('--lr', type=float, default=1e-3, help="the autoencoder's")
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', help='write the table to this .csv file too')
    args = parser.parse_args()
    args.patch = args.patch or sorted({8, args.size})
    return args


def check(args: argparse.Namespace) -> None:
    if args.size < 16 or args.size % 16:
        raise ValueError(f'--size {args.size}: expected a multiple of 16')
    numbers = 3 * args.size**2
    for k in args.latent:
        if not 0 < k <= numbers:
            raise ValueError(f'--latent {k}: images of this --size have {numbers} numbers')
    for patch in args.patch:
        if patch < 1 or args.size % patch:
            raise ValueError(f'--patch {patch}: expected a divisor of --size {args.size}')
    if args.out and Path(args.out).suffix != '.csv':
        raise ValueError(f'--out {args.out}: expected a name that ends in .csv')


def load_images(folder: str, size: int, limit: int) -> Tensor:
    """(N, 3, size, size) RGB in [0, 1]; of more than ``limit`` images some from everywhere."""
    files = find_images([folder])
    if len(files) > limit:
        files = [files[i * len(files) // limit] for i in range(limit)]
    load = Compose(
        [
            dict(type='LoadImageFromFile'),
            dict(type='ResizeEdge', scale=size, backend='pillow', interpolation='bicubic'),
            dict(type='CenterCrop', crop_size=size),
        ]
    )
    images = []
    for file in progress(files, f'reading {len(files)} images of {folder}'):
        try:
            bgr = load(dict(img_path=str(file)))['img']
        except Exception as error:  # each decoder has its own way to fail
            raise ValueError(f'{file} cannot be read as an image ({error!r})') from None
        images.append(torch.from_numpy(bgr[..., ::-1].copy()).permute(2, 0, 1))
    return torch.stack(images).float() / 255


def progress(tasks, title: str) -> Iterator:
    """Go through ``tasks`` and show how far it is, on the terminal and not in the table."""
    print(title, file=sys.stderr)
    yield from track_iter_progress((tasks, len(tasks)), file=sys.stderr)
    print(file=sys.stderr)


# ----------------------------------------------------------------------------- PCA
def principal_components(x: Tensor, k: int) -> Tensor:
    """The first k directions of centred data x (N, D), orthonormal: (k, D)."""
    n, d = x.shape
    if min(n, d) > EXACT:
        return torch.svd_lowrank(x, q=min(k + 16, n, d), niter=4)[2][:, :k].mT
    gram = torch.zeros(min(n, d), min(n, d), dtype=torch.float64)  # float32 would lose the small
    for part in x.split(4096, dim=int(n <= d)):
        part = part.double()
        gram += part @ part.mT if n <= d else part.mT @ part
    values, vectors = torch.linalg.eigh(gram)  # ascending
    values, vectors = values[-k:].flip(0), vectors[:, -k:].flip(1)
    if n > d:
        return vectors.mT.to(x.dtype)
    return ((vectors / values.clamp(min=values[0] * 1e-14).sqrt()).mT @ x.double()).to(x.dtype)


def pca(train: Tensor, latents: list[int]) -> Callable[[Tensor, int], Tensor]:
    """Fit; the result maps images (N, 3, H, W) and k <= max(latents) to reconstructions."""
    mean = train.flatten(1).mean(0)
    basis = principal_components(train.flatten(1) - mean, max(latents))  # (K, D)

    def reconstruct(images, k):
        q = (images.flatten(1) - mean) @ basis[:k].mT  # (N, k)
        return (mean + q @ basis[:k]).view_as(images)

    return reconstruct


# ----------------------------------------------------------------------------- DCT
def dct_matrix(n: int) -> Tensor:
    """The orthonormal DCT-II: (n, n), a row for each frequency."""
    k, x = torch.arange(n)[:, None], torch.arange(n)[None]
    matrix = torch.cos(math.pi * (x + 0.5) * k / n) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


def dct(images: Tensor, patch: int) -> Tensor:
    """Images (N, 3, H, W) -> coefficients (N, 3, H/p, p, W/p, p), an orthonormal transform."""
    x = images.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))
    d = dct_matrix(patch)
    return torch.einsum('kc,uy,vx,nciyjx->nkiujv', COLOURS, d, d, x)


def inverse_dct(coefficients: Tensor) -> Tensor:
    d = dct_matrix(coefficients.shape[-1])
    x = torch.einsum('kc,uy,vx,nkiujv->nciyjx', COLOURS, d, d, coefficients)
    return x.flatten(4, 5).flatten(2, 3)


def dct_fixed(train: Tensor, patch: int) -> Callable[[Tensor, int], Tensor]:
    """Keep the k places of largest variance over ``train``."""
    mean = train.mean(0)
    order = dct(train - mean, patch).flatten(1).square().mean(0).argsort(descending=True)

    def reconstruct(images, k):
        coefficients = dct(images - mean, patch)
        kept = torch.zeros_like(coefficients[0].flatten()).index_fill_(0, order[:k], 1)
        return mean + inverse_dct(coefficients * kept.view_as(coefficients[0]))

    return reconstruct


def dct_largest(train: Tensor, patch: int) -> Callable[[Tensor, int], Tensor]:
    """Keep the k largest of each image."""
    mean = train.mean(0)

    def reconstruct(images, k):
        coefficients = dct(images - mean, patch)
        flat = coefficients.flatten(1)
        kept = torch.zeros_like(flat).scatter_(1, flat.abs().topk(k).indices, 1)
        return mean + inverse_dct((flat * kept).view_as(coefficients))

    return reconstruct


# ----------------------------------------------------------------------------- autoencoder
class ConvAutoencoder(nn.Module):
    """Image (N, 3, S, S) -> k numbers -> image, in both cases normalised to about [-1, 1].

    Encoder: four 4 x 4 convolutions of stride 2 to 32, 64, 128 and 256 channels, each with ReLU,
    then one linear layer from the S/16 x S/16 x 256 features to k. The decoder is its mirror, with
    transposed convolutions. No normalisation, no skip connections.
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
    """Train a ConvAutoencoder: AdamW, weight decay 0.01, warm-up of 5 %, cosine; random flips."""
    torch.manual_seed(seed)
    device = get_device()
    model = ConvAutoencoder(k, train.shape[-1]).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for step in progress(range(steps), f'training an autoencoder of {k} numbers'):
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
def baselines(args: argparse.Namespace, train: Tensor) -> Iterator[tuple[str, int, Callable]]:
    """(name, k, function of images and k), the methods in the order of the table's columns."""
    if 'pca' in args.methods:
        possible = [k for k in args.latent if k < len(train)]
        for k in sorted(set(args.latent) - set(possible)):
            print(f'no pca of {k}: that needs more than {k} training images, not {len(train)}')
        fitted = pca(train, possible) if possible else None
        yield from (('pca', k, fitted) for k in possible)
    if 'dct' in args.methods:
        for patch in args.patch:
            for name, fit in (('fixed', dct_fixed), ('largest', dct_largest)):
                fitted = fit(train, patch)
                yield from ((f'dct {patch} {name}', k, fitted) for k in args.latent)
    if 'autoencoder' in args.methods:
        settings = dict(steps=args.steps, batch_size=args.batch_size, lr=args.lr, seed=args.seed)
        for k in args.latent:
            yield 'autoencoder', k, autoencoder(train, k, **settings)


def score(reconstructions: Tensor, images: Tensor) -> tuple[float, float]:
    """PSNR in dB and SSIM, averaged over images (N, 3, H, W)."""
    pairs = zip(reconstructions, images, strict=True)
    values = [(psnr(*pair).item(), ssim(*pair)) for pair in pairs]
    return tuple(torch.tensor(values, dtype=torch.float64).mean(0).tolist())


def write_csv(path: str, rows: list[dict]) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'w', newline='') as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    args = parse_args()
    init_default_scope('mmpretrain')
    torch.manual_seed(args.seed)
    try:
        check(args)
        train = load_images(args.train, args.size, args.max_train)
        val = load_images(args.val, args.size, args.max_val)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f'latent_baselines: {error}') from None
    print(
        f'{len(train)} training and {len(val)} val images of {args.size} x {args.size}, seed '
        f'{args.seed}; autoencoder: {args.steps} steps of {args.batch_size}\n'
    )
    print(f'| {"method":16} | latent size | PSNR, dB | SSIM  |\n|---|---|---|---|', flush=True)
    rows = []
    for method, k, reconstruct in baselines(args, train):
        quality = score(reconstruct(val, k), val)
        print(f'| {method:16} | {k:11} | {quality[0]:8.2f} | {quality[1]:.3f} |', flush=True)
        rows.append(
            dict(
                method=method,
                latent=k,
                psnr=f'{quality[0]:.4f}',
                ssim=f'{quality[1]:.5f}',
                size=args.size,
                train_images=len(train),
                val_images=len(val),
                seed=args.seed,
                steps=args.steps if method == 'autoencoder' else '',
            )
        )
        if args.out:  # after each row: an interrupted run keeps what it has
            write_csv(args.out, rows)


if __name__ == '__main__':
    main()
