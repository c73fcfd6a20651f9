"""What lies in the space of the vector q: mean, mirror images, mixtures, samples, components.

    python tools/analysis/embedding_space.py configs/selfsup/finola.py work_dirs/finola \\
        data/imagenet/train --show data/imagenet/val --out work_dirs/embedding

For a whole-image FINOLA. Encodes the training images, then decodes vectors made from theirs and
from those of the images to show (paper, Appendix E.2, Fig. 12 to 15). Writes into --out
    mean.png            from q to its mirror 2 mean - q; and 2q - mean, which the paper prints
    interpolation.png   between two images
    samples.png         from the normal distribution of the training images' mean and covariance
    components.png      q from its first K principal components
    components.csv      PSNR of the images to show, and the share of the variance of q, against K
    summary.csv         grey: standard deviation over the pixels of the decoded mean
                        mirror: correlation of the decoded 2 mean - q and q, both less the decoded
                        mean; -1 is exactly reversed colours
                        mixup: PSNR of the decoded mean of two q against the mean of their images
Of images that are among the training images any number of components above theirs is exact; --show
others for a fair PSNR.
"""

import argparse
import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import torch
from mmengine.config import Config
from mmengine.utils import track_iter_progress
from torch import Tensor, nn

from finola_mm.apis import CfgOptions, load_config
from finola_mm.apis.inference import load_inputs, load_model
from finola_mm.datasets import find_images
from finola_mm.evaluation import psnr

matplotlib.use('Agg')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='The space of the vector q')
    parser.add_argument('config', help='config file of a whole-image FINOLA')
    parser.add_argument('checkpoint', help='checkpoint file, or a work directory for its last one')
    parser.add_argument('images', nargs='+', help='training images: files and folders of images')
    parser.add_argument('--show', nargs='+', help='images to decode; default: training images')
    parser.add_argument('--out', required=True, help='folder for the pictures and the tables')
    parser.add_argument('--num', type=int, default=6, help='rows of a picture')
    parser.add_argument('--num-psnr', type=int, default=200, help='images for components.csv')
    parser.add_argument(
        '--components',
        nargs='+',
        type=int,
        metavar='K',
        help='default: 1, 4, 16, ... as far as there are',
    )
    parser.add_argument('--batch-size', type=int, default=32)
    parser.add_argument('--seed', type=int, default=0, help='seed of the samples')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, help='settings, key=value')
    return parser.parse_args()


class EmbeddingSpace:
    """Mean and principal axes of vectors q (N, M, C), and the decoder of a model.

    Flat vectors are (n, M*C); pictures (n, 3, H, W) are RGB, clamped to [0, 1].
    """

    def __init__(self, model: nn.Module, q: Tensor, batch_size: int):
        self.model, self.batch_size, self.shape = model, batch_size, q.shape[1:]
        flat = q.flatten(1).double()
        self.mean = flat.mean(0)
        _, values, axes = torch.linalg.svd(flat - self.mean, full_matrices=False)
        kept = values > values[0] * 1e-10  # centred, N vectors span N - 1 dimensions
        self.axes = axes[kept]  # (R, M*C)
        self.deviations = values[kept] / max(len(q) - 1, 1) ** 0.5  # (R,)

    @torch.no_grad()
    def decode(self, flat: Tensor) -> Tensor:
        """Vectors (n, M*C) -> pictures."""
        device = next(self.model.parameters()).device
        parts = [
            self.model.to_pixels(self.model.decode(q.float().to(device))).clamp(0, 1).cpu()
            for q in flat.unflatten(1, self.shape).split(self.batch_size)
        ]
        return torch.cat(parts)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, M*C) from the normal distribution of mean and covariance."""
        normal = torch.randn(count, len(self.axes), generator=generator, dtype=self.mean.dtype)
        return self.mean + (normal * self.deviations) @ self.axes

    def project(self, flat: Tensor, k: int) -> Tensor:
        """The nearest vectors in the first k principal axes through the mean."""
        axes = self.axes[:k]
        return self.mean + (flat - self.mean) @ axes.mT @ axes


@torch.no_grad()
def encode(model: nn.Module, cfg: Config, files: Sequence[Path], batch_size: int) -> Iterator:
    """Yields, batch by batch, q (n, M, C) and the pictures (n, 3, H, W) of it, on the CPU."""
    print(f'encoding {len(files)} images', file=sys.stderr)
    inputs = load_inputs(model, cfg, files, batch_size=batch_size)
    batches = -(-len(files) // batch_size)
    for images, _ in track_iter_progress((inputs, batches), file=sys.stderr):
        yield model.encode(images).cpu(), model.to_pixels(images).clamp(0, 1).cpu()
    print(file=sys.stderr)


# ----------------------------------------------------------------------------- experiments
def through_the_mean(space: EmbeddingSpace, q: Tensor) -> dict[str, Tensor]:
    """Vectors (n, M*C) -> title: pictures, from 2q - mean through q and the mean to 2 mean - q."""
    steps = {
        '2q - mean': 2,
        'q': 1,
        '(q + mean)/2': 0.5,
        'mean': 0,
        '(3 mean - q)/2': -0.5,
        '2 mean - q': -1,
    }
    away = q - space.mean
    return {title: space.decode(space.mean + t * away) for title, t in steps.items()}


def between(space: EmbeddingSpace, q: Tensor) -> dict[str, Tensor]:
    """From every vector of (n, M*C) to the next, and from the last to the first."""
    titles = {
        'q1': 1,
        '3/4 q1 + 1/4 q2': 0.75,
        'half of each': 0.5,
        '1/4 q1 + 3/4 q2': 0.25,
        'q2': 0,
    }
    following = q.roll(-1, 0)
    return {title: space.decode(a * q + (1 - a) * following) for title, a in titles.items()}


def component_table(
    space: EmbeddingSpace, q: Tensor, pictures: Tensor, ks: Sequence[int]
) -> list[dict]:
    """PSNR of the decoded projections of q (n, M*C) against pictures, with 'all' in the end."""
    variance = space.deviations**2
    rows = []
    for k in track_iter_progress([*ks, 'all'], file=sys.stderr):
        decoded = space.decode(q if k == 'all' else space.project(q, k))
        values = [psnr(*pair).item() for pair in zip(decoded, pictures, strict=True)]
        share = 1.0 if k == 'all' else (variance[:k].sum() / variance.sum()).item()
        rows.append(dict(components=k, psnr=sum(values) / len(values), variance_share=share))
    print(file=sys.stderr)
    return rows


def summarise(line: dict[str, Tensor], mixed: dict[str, Tensor]) -> dict[str, float]:
    """The three numbers of summary.csv from the pictures of mean.png and interpolation.png."""
    mean = line['mean']
    mirrored, same = (line[title] - mean for title in ('2 mean - q', 'q'))
    both = torch.stack((mirrored.flatten(), same.flatten())).double()
    middles = zip(mixed['half of each'], (mixed['q1'] + mixed['q2']) / 2, strict=True)
    values = [psnr(*pair).item() for pair in middles]
    return dict(
        grey=mean[0].std(correction=0).item(),
        mirror=torch.corrcoef(both)[0, 1].item(),
        mixup=sum(values) / len(values),
    )


# ----------------------------------------------------------------------------- files
def draw_grid(columns: dict[str, Tensor], path: Path) -> None:
    """One column of pictures (n, 3, H, W) for each title, one row for each n."""
    rows = len(next(iter(columns.values())))
    figure, axes = plt.subplots(
        rows,
        len(columns),
        figsize=(1.5 * len(columns), 1.5 * rows + 0.3),
        squeeze=False,
        gridspec_kw=dict(
            wspace=0.04,
            hspace=0.04,
            left=0.01,
            right=0.99,
            bottom=0.01,
            top=1 - 0.3 / (1.5 * rows + 0.3),
        ),
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for column, (title, pictures) in zip(axes.T, columns.items(), strict=True):
        column[0].set_title(title, fontsize=9)
        for axis, picture in zip(column, pictures, strict=True):
            axis.imshow(picture.permute(1, 2, 0).float().numpy(), interpolation='nearest')
    figure.savefig(path, dpi=130)
    plt.close(figure)


def write_csv(path: Path, rows: Sequence[dict]) -> None:
    with path.open('w', newline='') as file:
        writer = csv.DictWriter(file, rows[0], lineterminator='\n')
        writer.writeheader()
        for row in rows:
            values = {k: f'{v:.6g}' if isinstance(v, float) else v for k, v in row.items()}
            writer.writerow(values)


def powers_of_four(limit: int) -> list[int]:
    return [4**i for i in range(16) if 4**i <= limit]


def check_model(model: nn.Module) -> None:
    if not hasattr(model, 'encode'):
        raise ValueError(
            f'{type(model).__name__} has no vector of a whole image; take a config of FINOLA, such '
            'as configs/selfsup/finola.py'
        )


def explore(space: EmbeddingSpace, q: Tensor, pictures: Tensor, args, out: Path) -> None:
    """Make everything that goes into ``out`` of flat vectors (n, M*C) and their pictures."""
    rows = spread(range(len(q)), args.num)
    shown, originals = q[rows], {'image': pictures[rows]}
    line, mixed = through_the_mean(space, shown), between(space, shown)
    draw_grid(originals | line, out / 'mean.png')
    draw_grid(mixed, out / 'interpolation.png')

    generator = torch.Generator().manual_seed(args.seed)
    samples = space.decode(space.sample(5 * args.num, generator))
    draw_grid({f'sample {i + 1}': samples[i::5] for i in range(5)}, out / 'samples.png')

    ks = args.components or powers_of_four(len(space.axes))
    titles = {f'K = {k}': space.decode(space.project(shown, k)) for k in ks}
    draw_grid(originals | titles | {'all': line['q']}, out / 'components.png')
    table = component_table(space, q, pictures, ks)
    write_csv(out / 'components.csv', table)
    summary = summarise(line, mixed)
    write_csv(out / 'summary.csv', [summary])
    print_tables(table, summary)


def print_tables(table: Iterable[dict], summary: dict[str, float]) -> None:
    print('| components | PSNR, dB | share of the variance |\n|---|---|---|')
    for row in table:
        print(f'| {row["components"]} | {row["psnr"]:.2f} | {row["variance_share"]:.3f} |')
    print(', '.join(f'{name} {value:.3f}' for name, value in summary.items()))


def find_files(args: argparse.Namespace) -> tuple[list[Path], list[Path]]:
    """The training images, and at most ``--num-psnr`` images to show, from everywhere."""
    files = find_images(args.images)
    shown = find_images(args.show) if args.show else files
    if min(len(files), len(shown)) < 2:
        raise ValueError('there is one image; a covariance and mixtures need two at least')
    if args.num < 2 or args.num_psnr < args.num:
        raise ValueError(f'--num {args.num}: expected 2 to --num-psnr, {args.num_psnr}')
    if args.components and min(args.components) < 1:
        raise ValueError(f'--components {min(args.components)}: expected 1 or more')
    return files, spread(shown, args.num_psnr)


def spread(items: Sequence, count: int) -> list:
    """At most ``count`` of the items, at equal distances."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def main() -> None:
    args = parse_args()
    try:
        cfg = load_config(args.config, options=args.cfg_options)
        files, shown_files = find_files(args)
        model = load_model(cfg, args.checkpoint)
        check_model(model)
        q = torch.cat([q for q, _ in encode(model, cfg, files, args.batch_size)])
        shown = list(encode(model, cfg, shown_files, args.batch_size))
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f'embedding_space: {error}') from None
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    shown_q, pictures = (torch.cat(parts) for parts in zip(*shown, strict=True))
    space = EmbeddingSpace(model, q, args.batch_size)
    explore(space, shown_q.flatten(1).double(), pictures, args, out)
    print(f'wrote 4 pictures, components.csv and summary.csv into {out}')


if __name__ == '__main__':
    main()
