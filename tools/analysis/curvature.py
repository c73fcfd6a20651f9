"""Gaussian curvature of the feature maps of one model or several, as in Fig. 5 of the paper.

    python tools/analysis/curvature.py configs/selfsup/finola.py work_dirs/finola \\
        data/imagenet/val --with configs/selfsup/masked_finola_b.py work_dirs/masked_finola_b \\
        --out work_dirs/curvature

Every channel of the map z that FINOLA makes of an image is a surface over the positions. Within
each image the channels are ranked by sqrt((k+^2 + k-^2) / 2) of their peak positive and peak
negative curvature (Appendix A); rank 1 bends most. Writes into --out
    curvature.png   that value by rank, and the two peaks by rank, for all models
    ranks.csv       the figures of the picture: means over images and deciles
    channels.csv    the mean over images for every channel, the channel that bends most first
Curvature depends on the scale of z: it is that of z as the model has it.
"""

import argparse
import csv
import sys
from collections.abc import Iterable
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from mmengine.config import Config
from mmengine.utils import track_iter_progress
from torch import Tensor, nn

from finola_mm.apis import load_config
from finola_mm.apis.inference import load_inputs, load_model
from finola_mm.datasets import find_images
from finola_mm.functional import gaussian_curvature

matplotlib.use('Agg')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Gaussian curvature of feature maps')
    parser.add_argument('config', help='config file of the pre-training')
    parser.add_argument('checkpoint', help='checkpoint file, or a work directory for its last one')
    parser.add_argument('images', nargs='+', help='image files and folders of images')
    parser.add_argument(
        '--with',
        dest='others',
        nargs=2,
        action='append',
        default=[],
        metavar=('CONFIG', 'CHECKPOINT'),
        help='one more model in the same picture; may be given several times',
    )
    parser.add_argument('--out', required=True, help='folder for the picture and the tables')
    parser.add_argument('--top', type=int, default=100, help='draw at most so many ranks')
    parser.add_argument('--batch-size', type=int, default=32)
    parser.add_argument('--seed', type=int, default=0, help='seed of the random visible blocks')
    return parser.parse_args()


@torch.no_grad()
def feature_map(model: nn.Module, images: Tensor, samples: list) -> Tensor:
    """The map z (N, C, H, W) of normalised images (N, 3, H', W'), whole or seen by a block."""
    if hasattr(model, 'encode'):
        return model.neck.latent_to_map(model.encode(images))
    maps = []
    handle = model.neck.register_forward_hook(lambda module, inputs, z: maps.append(z))
    try:
        model(images, samples, mode='predict')
    finally:
        handle.remove()
    return maps[0]


def peaks(z: Tensor) -> Tensor:
    """z (N, C, H, W) -> (N, C, 2), the largest curvature (>= 0) and the smallest (<= 0)."""
    curvature = gaussian_curvature(z).flatten(2)
    return torch.stack((curvature.amax(2).clamp(min=0), curvature.amin(2).clamp(max=0)), 2)


def root_mean_square(peaks: Tensor) -> Tensor:
    """sqrt((k+^2 + k-^2) / 2): (..., 2) -> (...)."""
    return peaks.square().mean(-1).sqrt()


def measure(model: nn.Module, cfg: Config, files: list[Path], batch_size: int, seed: int) -> Tensor:
    """``peaks`` of the model's maps of all files, (N, C, 2)."""
    batches = -(-len(files) // batch_size)
    inputs = load_inputs(model, cfg, files, batch_size=batch_size, seed=seed)
    found = [
        peaks(feature_map(model, images, samples)).cpu()
        for images, samples in track_iter_progress((inputs, batches), file=sys.stderr)
    ]
    print(file=sys.stderr)
    return torch.cat(found)


def rank(peaks: Tensor) -> dict[str, np.ndarray]:
    """(N, C, 2) -> columns by rank, (C,) each; ranked within each image, then over the images."""
    order = root_mean_square(peaks).argsort(1, descending=True)  # (N, C)
    ranked = peaks.gather(1, order[..., None].expand_as(peaks))
    value = root_mean_square(ranked)
    low, high = value.quantile(torch.tensor([0.1, 0.9]), dim=0)
    columns = dict(mean=value.mean(0), decile_1=low, decile_9=high)
    columns['peak_positive'], columns['peak_negative'] = ranked.mean(0).unbind(-1)
    return {name: column.numpy() for name, column in columns.items()}


def draw(models: dict[str, dict[str, np.ndarray]], top: int, num: int, path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout='constrained')
    for color, (name, columns) in enumerate(models.items()):
        x = np.arange(1, min(top, len(columns['mean'])) + 1)
        style = dict(color=f'C{color}')
        left.plot(x, columns['mean'][: len(x)], label=name, **style)
        band = columns['decile_1'][: len(x)], columns['decile_9'][: len(x)]
        left.fill_between(x, *band, alpha=0.2, linewidth=0, **style)
        right.plot(x, columns['peak_positive'][: len(x)], label=name, **style)
        right.plot(x, columns['peak_negative'][: len(x)], linestyle='--', **style)
    left.set(title='√((κ₊² + κ₋²) / 2): mean, and 80 % of the images')
    left.set(ylabel='curvature, 1 / position²', yscale='log')
    right.set(title='mean of the peaks κ₊ (solid) and κ₋ (dashed)')
    right.axhline(0, color='0.6', linewidth=0.8)
    for axes in (left, right):
        axes.set_xlabel(f'rank of the channel within its image ({num} images)')
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable]) -> None:
    with path.open('w', newline='') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(header)
        writer.writerows(rows)


def rank_rows(name: str, columns: dict[str, np.ndarray]) -> Iterable[list]:
    for i, values in enumerate(zip(*columns.values(), strict=True), 1):
        yield [name, i, *(f'{value:.6g}' for value in values)]


def channel_rows(name: str, peaks: Tensor) -> Iterable[list]:
    """Every channel by its mean over the images."""
    means = torch.cat((root_mean_square(peaks)[..., None], peaks), 2).mean(0)  # (C, 3)
    for channel in means[:, 0].argsort(descending=True).tolist():
        yield [name, channel, *(f'{value:.6g}' for value in means[channel].tolist())]


def unique_names(configs: list[str]) -> list[str]:
    """The configs' names, with a number where two are the same."""
    names = [Path(config).stem for config in configs]
    return [
        name if names.count(name) == 1 else f'{name} ({names[: i + 1].count(name)})'
        for i, name in enumerate(names)
    ]


def main() -> None:
    args = parse_args()
    pairs = [(args.config, args.checkpoint), *args.others]
    names = unique_names([config for config, _ in pairs])
    ranked, ranks, channels = {}, [], []
    try:
        files = find_images(args.images)
        for name, (config, checkpoint) in zip(names, pairs, strict=True):
            cfg = load_config(config)
            model = load_model(cfg, checkpoint)
            print(f'{name}: {len(files)} images', file=sys.stderr)
            found = measure(model, cfg, files, args.batch_size, args.seed)
            ranked[name] = rank(found)
            ranks += rank_rows(name, ranked[name])
            channels += channel_rows(name, found)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f'curvature: {error}') from None
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    peaks = ('peak_positive', 'peak_negative')
    write_csv(out / 'ranks.csv', ('model', 'rank', 'mean', 'decile_1', 'decile_9', *peaks), ranks)
    write_csv(out / 'channels.csv', ('model', 'channel', 'mean', *peaks), channels)
    draw(ranked, args.top, len(files), out / 'curvature.png')
    print(f'wrote curvature.png, ranks.csv and channels.csv into {out}')


if __name__ == '__main__':
    main()
