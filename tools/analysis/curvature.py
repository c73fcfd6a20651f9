"""Measure the Gaussian curvature of feature maps, as in Fig. 5 of the paper.

    python tools/analysis/curvature.py configs/selfsup/finola.py work_dirs/finola \\
        data/imagenet/val --with configs/selfsup/masked_finola_b.py work_dirs/masked_finola_b \\
        --out work_dirs/curvature

Each channel of the map z that FINOLA generates for an image is a surface over the positions. Within
each image, channels are ranked by sqrt((k+^2 + k-^2) / 2), where k+ and k- are their peak positive
and peak negative curvature (Appendix A); rank 1 has the largest value. Curvature depends on the
scale of z, which is used as the model outputs it. Files in --out:
    curvature.png   this value and the two peaks by rank, for all models
    ranks.csv       the values of the figure: means over images, and deciles
    channels.csv    the mean over images of each channel, in descending order
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from finola_mm.apis import (
    add_config_and_checkpoint,
    command_line,
    int_range,
    load_config,
    make_folder,
    progress,
    write_csv,
)
from finola_mm.apis.inference import load_inputs, load_model
from finola_mm.datasets import find_images
from finola_mm.functional import gaussian_curvature

matplotlib.use('Agg')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Measure the Gaussian curvature of feature maps')
    add_config_and_checkpoint(parser)
    parser.add_argument('images', nargs='+', help='image files and folders of images')
    parser.add_argument(
        '--with',
        dest='others',
        nargs=2,
        action='append',
        default=[],
        metavar=('CONFIG', 'CHECKPOINT'),
        help='another model in the same figure; may be repeated',
    )
    parser.add_argument('--out', required=True, help='folder for the figure and the tables')
    parser.add_argument(
        '--top', type=int_range(1), default=100, help='number of ranks in the figure'
    )
    parser.add_argument('--batch-size', type=int_range(1), default=32)
    parser.add_argument('--seed', type=int, default=0, help='seed of the random visible blocks')
    return parser.parse_args(argv)


@torch.no_grad()
def feature_map(model: nn.Module, images: Tensor, samples: list) -> Tensor:
    """Return the map z (N, C, H, W) of normalized images (N, 3, H', W').

    A masked model generates it from the visible block.
    """
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
    """Return the largest (>= 0) and smallest (<= 0) curvature: (N, C, H, W) -> (N, C, 2)."""
    curvature = gaussian_curvature(z).flatten(2)
    return torch.stack((curvature.amax(2).clamp(min=0), curvature.amin(2).clamp(max=0)), 2)


def root_mean_square(peaks: Tensor) -> Tensor:
    """Compute sqrt((k+^2 + k-^2) / 2): (..., 2) -> (...)."""
    return peaks.square().mean(-1).sqrt()


def measure(
    model: nn.Module, cfg: Config, files: list[Path], batch_size: int, seed: int, title: str
) -> Tensor:
    """Return the ``peaks`` (N, C, 2) of the feature maps of all files."""
    inputs = load_inputs(model, cfg, files, batch_size=batch_size, seed=seed)
    batches = progress(inputs, title, -(-len(files) // batch_size))
    return torch.cat([peaks(feature_map(model, *batch)).cpu() for batch in batches])


def rank(peaks: Tensor) -> dict[str, np.ndarray]:
    """Rank channels within each image and average by rank: (N, C, 2) -> columns (C,)."""
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
        shown = {key: column[:top] for key, column in columns.items()}
        x = np.arange(1, len(shown['mean']) + 1)
        style = dict(color=f'C{color}')
        left.plot(x, shown['mean'], label=name, **style)
        left.fill_between(x, shown['decile_1'], shown['decile_9'], alpha=0.2, linewidth=0, **style)
        right.plot(x, shown['peak_positive'], label=name, **style)
        right.plot(x, shown['peak_negative'], linestyle='--', **style)
    left.set(title='√((κ₊² + κ₋²) / 2): mean and middle 80 % of the images')
    left.set(ylabel='curvature, 1 / position²', yscale='log')
    right.set(title='mean of the peaks κ₊ (solid) and κ₋ (dashed)')
    right.axhline(0, color='0.6', linewidth=0.8)
    for axes in (left, right):
        axes.set_xlabel(f'rank of the channel within its image ({num} images)')
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def rank_rows(name: str, columns: dict[str, np.ndarray]) -> Iterator[dict]:
    """Yield the rows of ranks.csv."""
    for i, values in enumerate(zip(*columns.values(), strict=True), 1):
        yield dict(model=name, rank=i, **dict(zip(columns, map(float, values), strict=True)))


def channel_rows(name: str, peaks: Tensor) -> Iterator[dict]:
    """Yield the rows of channels.csv: means over images, in descending order."""
    means = torch.cat((root_mean_square(peaks)[..., None], peaks), 2).mean(0)  # (C, 3)
    for channel in means[:, 0].argsort(descending=True).tolist():
        mean, positive, negative = means[channel].tolist()
        yield dict(
            model=name,
            channel=channel,
            mean=mean,
            peak_positive=positive,
            peak_negative=negative,
        )


def unique_names(configs: list[str]) -> list[str]:
    """Return the names of the configs; append a number to duplicates."""
    names = [Path(config).stem for config in configs]
    return [
        name if names.count(name) == 1 else f'{name} ({names[: i + 1].count(name)})'
        for i, name in enumerate(names)
    ]


@command_line
def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    pairs = [(args.config, args.checkpoint), *args.others]
    names = unique_names([config for config, _ in pairs])
    ranked, ranks, channels = {}, [], []
    files = find_images(args.images)
    out = make_folder(args.out)
    for name, (config, checkpoint) in zip(names, pairs, strict=True):
        cfg = load_config(config)
        model = load_model(cfg, checkpoint)
        title = f'{name}: {len(files)} images'
        measured = measure(model, cfg, files, args.batch_size, args.seed, title)
        ranked[name] = rank(measured)
        ranks += rank_rows(name, ranked[name])
        channels += channel_rows(name, measured)
    write_csv(out / 'ranks.csv', ranks)
    write_csv(out / 'channels.csv', channels)
    draw(ranked, args.top, len(measured), out / 'curvature.png')
    print(f'wrote curvature.png, ranks.csv and channels.csv to {out}')


if __name__ == '__main__':
    main()
