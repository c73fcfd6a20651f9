"""Explore the space of the latent vector q: mean, reflections, mixtures, samples, components.

    python tools/analysis/embedding_space.py configs/selfsup/finola.py work_dirs/finola \\
        data/imagenet/train --show data/imagenet/val --out work_dirs/embedding

The tool works with whole-image FINOLA. It encodes the training images and the --show images, and
decodes vectors derived from their latent vectors (paper, Appendix E.2, Fig. 12 to 15). Files in
--out:
    mean.png            the line from q to its reflection 2 mean - q, and 2q - mean, as given in the
                        paper
    interpolation.png   interpolations between two images
    samples.png         samples from the normal distribution with the mean and covariance of the
                        training images' latent vectors
    components.png      reconstructions from the first K principal components of q
    components.csv      PSNR of the --show images and share of the variance of q, for each K
    summary.csv         grey: standard deviation over the pixels of the decoded mean
                        mirror: correlation of the decoded 2 mean - q and the decoded q, after
                        subtracting the decoded mean; -1 for exactly inverted colours
                        mixup: PSNR of the decoded mean of two q against the mean of their images
With as many components as training images, the training images are reconstructed exactly. Pass
other images to --show for a fair PSNR.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import torch
from mmengine.config import Config
from torch import Tensor, nn

from finola_mm.apis import (
    add_cfg_options,
    add_config_and_checkpoint,
    command_line,
    int_range,
    load_config,
    make_folder,
    progress,
    write_csv,
)
from finola_mm.apis.inference import load_inputs, load_model
from finola_mm.datasets import evenly_spaced, find_images
from finola_mm.errors import UserError
from finola_mm.evaluation import psnr

matplotlib.use('Agg')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Explore the space of the latent vector q')
    add_config_and_checkpoint(parser)
    parser.add_argument('images', nargs='+', help='training images: files and folders of images')
    parser.add_argument('--show', nargs='+', help='images to decode; default: the training images')
    parser.add_argument('--out', required=True, help='folder for the figures and the tables')
    parser.add_argument('--num', type=int_range(2), default=6, help='number of rows of each figure')
    parser.add_argument(
        '--num-psnr', type=int_range(2), default=200, help='number of images for the tables'
    )
    parser.add_argument(
        '--components',
        nargs='+',
        type=int_range(1),
        metavar='K',
        help='numbers of components; default: 1, 4, 16, ...',
    )
    parser.add_argument('--batch-size', type=int_range(1), default=32)
    parser.add_argument('--seed', type=int, default=0, help='seed of the samples')
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    if args.num_psnr < args.num:
        parser.error(f'--num-psnr must be at least --num ({args.num}), got {args.num_psnr}')
    return args


class EmbeddingSpace:
    """Mean and principal axes of latent vectors q (N, M, C), and the decoder of a model.

    Flat vectors have shape (n, M*C). Pictures (n, 3, H, W) are RGB, clamped to [0, 1].
    """

    def __init__(self, model: nn.Module, q: Tensor, batch_size: int):
        self.model, self.batch_size, self.shape = model, batch_size, q.shape[1:]
        flat = q.flatten(1).double()
        self.mean = flat.mean(0)
        _, values, axes = torch.linalg.svd(flat - self.mean, full_matrices=False)
        kept = values > values[0] * 1e-10  # after centring, N vectors span at most N - 1 dimensions
        self.axes = axes[kept]  # (R, M*C)
        self.deviations = values[kept] / max(len(q) - 1, 1) ** 0.5  # (R,)

    @torch.no_grad()
    def decode(self, flat: Tensor) -> Tensor:
        """Decode vectors (n, M*C) to pictures."""
        device = next(self.model.parameters()).device
        parts = [
            self.model.to_pixels(self.model.decode(q.float().to(device))).clamp(0, 1).cpu()
            for q in flat.unflatten(1, self.shape).split(self.batch_size)
        ]
        return torch.cat(parts)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Sample (count, M*C) from the normal distribution with this mean and covariance."""
        normal = torch.randn(count, len(self.axes), generator=generator, dtype=self.mean.dtype)
        return self.mean + (normal * self.deviations) @ self.axes

    def project(self, flat: Tensor, k: int) -> Tensor:
        """Project vectors onto the first k principal axes through the mean."""
        axes = self.axes[:k]
        return self.mean + (flat - self.mean) @ axes.mT @ axes


@torch.no_grad()
def encode(
    model: nn.Module, cfg: Config, files: Sequence[Path], batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield q (n, M, C) and the pictures (n, 3, H, W) of each batch, on the CPU."""
    inputs = load_inputs(model, cfg, files, batch_size=batch_size)
    batches = progress(inputs, f'encoding {len(files)} images', -(-len(files) // batch_size))
    for images, _ in batches:
        yield model.encode(images).cpu(), model.to_pixels(images).clamp(0, 1).cpu()


# ----------------------------------------------------------------------------- experiments
def through_the_mean(space: EmbeddingSpace, q: Tensor) -> dict[str, Tensor]:
    """Decode the line from 2q - mean through q and the mean to 2 mean - q: title -> pictures."""
    steps = {
        '2q - mean': 2,
        'q': 1,
        '(q + mean)/2': 0.5,
        'mean': 0,
        '(3 mean - q)/2': -0.5,
        '2 mean - q': -1,
    }
    away = q - space.mean  # (n, M*C)
    return {title: space.decode(space.mean + t * away) for title, t in steps.items()}


def interpolate(space: EmbeddingSpace, q: Tensor) -> dict[str, Tensor]:
    """Decode mixtures of each vector in (n, M*C) with the next one, cyclically."""
    weights = {
        'q1': 1,
        '3/4 q1 + 1/4 q2': 0.75,
        'half of each': 0.5,
        '1/4 q1 + 3/4 q2': 0.25,
        'q2': 0,
    }
    following = q.roll(-1, 0)
    return {title: space.decode(a * q + (1 - a) * following) for title, a in weights.items()}


def mean_psnr(pictures: Iterable[Tensor], targets: Iterable[Tensor]) -> float:
    values = [psnr(*pair).item() for pair in zip(pictures, targets, strict=True)]
    return sum(values) / len(values)


def component_table(
    space: EmbeddingSpace, q: Tensor, pictures: Tensor, ks: Sequence[int]
) -> list[dict]:
    """Compare decoded projections of q (n, M*C) with the pictures; the last row uses all of q."""
    variance = space.deviations**2
    rows = []
    for k in progress([*ks, 'all'], 'components'):
        decoded = space.decode(q if k == 'all' else space.project(q, k))
        share = 1.0 if k == 'all' else (variance[:k].sum() / variance.sum()).item()
        rows.append(dict(components=k, psnr=mean_psnr(decoded, pictures), variance_share=share))
    return rows


def summarize(line: dict[str, Tensor], mixed: dict[str, Tensor]) -> dict[str, float]:
    """Compute the values of summary.csv from the pictures of mean.png and interpolation.png."""
    mean = line['mean']
    mirrored, same = (line[title] - mean for title in ('2 mean - q', 'q'))
    both = torch.stack((mirrored.flatten(), same.flatten())).double()
    return dict(
        grey=mean[0].std(correction=0).item(),
        mirror=torch.corrcoef(both)[0, 1].item(),
        mixup=mean_psnr(mixed['half of each'], (mixed['q1'] + mixed['q2']) / 2),
    )


# ----------------------------------------------------------------------------- files
def draw_grid(columns: dict[str, Tensor], path: Path) -> None:
    """Draw one column of pictures (n, 3, H, W) for each title."""
    rows = len(next(iter(columns.values())))
    height, title = 1.5 * rows + 0.3, 0.3  # inches
    figure, axes = plt.subplots(
        rows, len(columns), figsize=(1.5 * len(columns), height), squeeze=False
    )
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - title / height, wspace=0.04, hspace=0.04)
    for axis in axes.flat:
        axis.set_axis_off()
    for column, (title, pictures) in zip(axes.T, columns.items(), strict=True):
        column[0].set_title(title, fontsize=9)
        for axis, picture in zip(column, pictures, strict=True):
            axis.imshow(picture.permute(1, 2, 0).float().numpy(), interpolation='nearest')
    figure.savefig(path, dpi=130)
    plt.close(figure)


def explore(
    space: EmbeddingSpace, q: Tensor, pictures: Tensor, args: argparse.Namespace, out: Path
) -> None:
    """Write all files, from flat vectors (n, M*C) and their pictures (n, 3, H, W)."""
    rows = list(evenly_spaced(len(q), args.num))
    shown, originals = q[rows], {'image': pictures[rows]}
    line, mixed = through_the_mean(space, shown), interpolate(space, shown)
    draw_grid(originals | line, out / 'mean.png')
    draw_grid(mixed, out / 'interpolation.png')

    generator = torch.Generator().manual_seed(args.seed)
    samples = space.decode(space.sample(5 * args.num, generator))
    draw_grid({f'sample {i + 1}': samples[i::5] for i in range(5)}, out / 'samples.png')

    ks = args.components or [4**i for i in range(16) if 4**i <= len(space.axes)]
    titles = {f'K = {k}': space.decode(space.project(shown, k)) for k in ks}
    draw_grid(originals | titles | {'all': line['q']}, out / 'components.png')
    table = component_table(space, q, pictures, ks)
    write_csv(out / 'components.csv', table)
    summary = summarize(line, mixed)
    write_csv(out / 'summary.csv', [summary])
    print('| components | PSNR, dB | share of the variance |\n|---|---|---|')
    for row in table:
        print(f'| {row["components"]} | {row["psnr"]:.2f} | {row["variance_share"]:.3f} |')
    print(', '.join(f'{name} {value:.3f}' for name, value in summary.items()))


@command_line
def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    cfg = load_config(args.config, options=args.cfg_options)
    files = find_images(args.images)
    candidates = find_images(args.show) if args.show else files
    shown_files = [candidates[i] for i in evenly_spaced(len(candidates), args.num_psnr)]
    out = make_folder(args.out)
    model = load_model(cfg, args.checkpoint)
    if not hasattr(model, 'encode'):
        raise UserError(
            f'{type(model).__name__} has no latent vector of a whole image; choose a FINOLA '
            'config such as configs/selfsup/finola.py'
        )
    q = torch.cat([q for q, _ in encode(model, cfg, files, args.batch_size)])
    shown = list(encode(model, cfg, shown_files, args.batch_size))
    shown_q, pictures = (torch.cat(parts) for parts in zip(*shown, strict=True))
    if min(len(q), len(shown_q)) < 2:
        raise UserError(
            'covariance and mixtures require at least two readable images, got one; pass more'
        )
    space = EmbeddingSpace(model, q, args.batch_size)
    explore(space, shown_q.flatten(1).double(), pictures, args, out)
    print(f'wrote 4 figures, components.csv and summary.csv to {out}')


if __name__ == '__main__':
    main()
