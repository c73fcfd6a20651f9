"""Measure how far the maps of a FINOLA satisfy its equations.

    python tools/analysis/residuals.py configs/selfsup/finola.py work_dirs/finola \\
        data/imagenet/val --out work_dirs/residuals

A map is the mean of two orders of the steps, so its equations hold exactly only on the axes through
q. For each quadrant around q, the tool measures (finola_mm/functional/residuals.py)

    Eq. 1 in x and y   |dz - A n(z)| / |dz|, for the steps from each position to the next
    orders             the difference of both orders, relative to their distance from q
    waves              |left - right| / (|left| + |right|) of each one-way wave equation

Each value is a median over images and positions (and waves): of Eq. 1 and the waves, those from
which both steps stay in the map. The control in brackets replaces one side by that of another
image: the other image's n(z), order, or derivative along y. Paths of a model with several are
measured separately. The tool computes in float64 on the CPU. Files in --out:
    summary.csv    the values by quadrant, off the axes and with the axes
    waves.csv      speed, residual and control of each wave, off the axes
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import Tensor

from finola_mm.apis import (
    add_config_and_checkpoint,
    command_line,
    int_range,
    load_config,
    make_folder,
    progress,
    write_csv,
)
from finola_mm.apis.inference import find_finola, load_inputs, load_model
from finola_mm.datasets import evenly_spaced, find_images
from finola_mm.errors import UserError
from finola_mm.functional import (
    QUADRANTS,
    norm_linear_step,
    order_difference,
    quadrant,
    step_residual,
    unroll_orders,
    wave_residual,
    wave_speeds,
)

COLUMNS = {  # of summary.csv: {measure: (residual, control)}
    name: (name, f'{name}_control') for name in ('eq1_x', 'eq1_y', 'orders', 'waves')
}
REGIONS = {'off the axes': 1, 'with the axes': 0}  # -> the first row and column from q that count


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Measure how far the maps of a FINOLA satisfy its equations'
    )
    add_config_and_checkpoint(parser)
    parser.add_argument('images', nargs='+', help='image files and folders of images')
    parser.add_argument('--out', required=True, help='folder for the tables')
    parser.add_argument(
        '--number',
        type=int_range(2),
        default=24,
        help='number of images, evenly spaced; default: %(default)s',
    )
    return parser.parse_args(argv)


class Residuals(NamedTuple):
    """The residuals of one quadrant, each with its control; positions are the last two axes."""

    speeds: Tensor  # (K,), empty if the quadrant has no wave equations
    values: dict[str, tuple[Tensor, Tensor]]  # {measure: (residual, control)}


def encode(model: BaseModel, cfg: Config, files: list[Path]) -> Tensor:
    """Return the latent vectors (N, M, C)."""
    if not hasattr(model, 'encode'):
        raise UserError(
            'the model must encode whole images, as those of configs/selfsup/finola.py; got '
            f'{type(model).__name__}'
        )
    with torch.no_grad():
        return torch.cat([model.encode(images) for images, _ in load_inputs(model, cfg, files)])


def measure(
    z: Tensor, orders: tuple[Tensor, Tensor], A: Tensor, B: Tensor, *, eps: float, shift: int
) -> Residuals:
    """Measure one quadrant.

    Args:
        z: (N, C, h, w), the map.
        orders: The maps of both orders minus q, of the same shape.
        A, B: (C, C), the outward steps along x and y.
        eps: Added to the variance in the norm.
        shift: The control of an image is the one at this distance along N.
    """
    x_then_y, y_then_x = orders
    other = z.roll(shift, 0)
    # The positions from which both steps stay in the map.
    inside = dict(eq1_x=(..., slice(-1), slice(None)), eq1_y=(..., slice(None), slice(-1)))
    values = {
        name: (
            step_residual(z, matrix, dim, eps=eps)[inside[name]],
            step_residual(z, matrix, dim, start=other, eps=eps)[inside[name]],
        )
        for name, matrix, dim in (('eq1_x', A, -1), ('eq1_y', B, -2))
    }
    values['orders'] = (
        order_difference(x_then_y, y_then_x),
        order_difference(x_then_y, y_then_x.roll(shift, 0)),
    )
    try:
        speeds, vectors = wave_speeds(A, B)
    except ValueError as error:
        print(f'\n{error}', file=sys.stderr)
        return Residuals(torch.empty(0), values)
    values['waves'] = (
        wave_residual(z, speeds, vectors),
        wave_residual(z, speeds, vectors, other=other),
    )
    return Residuals(speeds, values)


def measure_quadrants(model: BaseModel, q: Tensor) -> dict[tuple[str, str], Residuals]:
    """Unroll q (N, M, C) in float64 and measure the four quadrants."""
    finola = find_finola(model)
    _, paths, _ = q.shape
    size = tuple(model.neck.latent_to_map(q[:1]).shape[2:])
    origin = getattr(model.neck, 'origin', None) or (size[0] // 2, size[1] // 2)
    matrices = {name: p.detach().cpu().double() for name, p in finola.named_parameters()}
    q = q.cpu().double().flatten(0, 1)  # (N*M, C)

    def step(z: Tensor, name: str) -> Tensor:
        return norm_linear_step(z, matrices[name], finola.eps)

    x_then_y, y_then_x = (order[:, 0] for order in unroll_orders(step, q, size, origin))
    z, centre = (x_then_y + y_then_x) / 2, q[..., None, None]
    measured = {}
    for a, b in progress(list(QUADRANTS), 'quadrants'):
        first, second = (quadrant(map_ - centre, a, b, origin) for map_ in (x_then_y, y_then_x))
        measured[a, b] = measure(
            quadrant(z, a, b, origin),
            (first, second),
            matrices[a],
            matrices[b],
            eps=finola.eps,
            shift=paths,
        )
    return measured


def summarize(measured: dict[tuple[str, str], Residuals]) -> list[dict]:
    """Return the rows of summary.csv: each quadrant, then all together, for both regions."""
    rows = []
    for region, first in REGIONS.items():
        for pairs in (*[[pair] for pair in measured], list(measured)):
            title = QUADRANTS[pairs[0]] if len(pairs) == 1 else 'all'
            row: dict = dict(quadrant=title, positions=region)
            for name, columns in COLUMNS.items():
                found = [measured[p].values[name] for p in pairs if name in measured[p].values]
                for i, column in enumerate(columns if found else ()):
                    kept = [values[i][..., first:, first:].flatten() for values in found]
                    row[column] = torch.cat(kept).nanmedian().item()
            rows.append(row)
    return rows


def wave_rows(measured: dict[tuple[str, str], Residuals]) -> Iterator[dict]:
    """Yield the rows of waves.csv: medians over images and positions off the axes."""
    for (a, b), found in measured.items():
        if not len(found.speeds):
            continue
        residual, control = (
            value[..., 1:, 1:].movedim(1, 0).flatten(1).nanmedian(1).values.tolist()
            for value in found.values['waves']
        )
        for speed, *values in zip(found.speeds.tolist(), residual, control, strict=True):
            yield dict(
                a=a,
                b=b,
                real=speed.real,
                imaginary=speed.imag,
                residual=values[0],
                control=values[1],
            )


def print_table(rows: list[dict]) -> None:
    print('| quadrant | positions | Eq. 1 in x | Eq. 1 in y | orders | waves |')
    print('|---|---|---|---|---|---|')
    for row in rows:
        values = [
            f'{row[own]:.2f} ({row[control]:.2f})' if own in row else 'none'
            for own, control in COLUMNS.values()
        ]
        print(f'| {row["quadrant"]} | {row["positions"]} | {" | ".join(values)} |')


@command_line
def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    files = find_images(args.images)
    files = [files[i] for i in evenly_spaced(len(files), args.number)]
    if len(files) < 2:
        raise UserError(f'the control requires at least 2 images, got {len(files)}')
    out = make_folder(args.out)
    cfg = load_config(args.config)
    model = load_model(cfg, args.checkpoint)
    measured = measure_quadrants(model, encode(model, cfg, files))
    rows = summarize(measured)
    print(f'Residuals of {len(files)} images, medians, with controls in brackets')
    print_table(rows)
    fields = ['quadrant', 'positions', *sum(COLUMNS.values(), ())]
    write_csv(out / 'summary.csv', rows, fields)
    write_csv(
        out / 'waves.csv',
        list(wave_rows(measured)),
        ['a', 'b', 'real', 'imaginary', 'residual', 'control'],
    )
    print(f'wrote summary.csv and waves.csv to {out}')


if __name__ == '__main__':
    main()
