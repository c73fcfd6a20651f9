"""Compute the wave speeds of a trained FINOLA and condition numbers of its wave equations.

    python tools/analysis/wave_speeds.py configs/selfsup/finola.py work_dirs/finola \\
        --out work_dirs/waves

In each of the four quadrants around q, a pair of matrices generates the map. Each pair has C-1
one-way wave equations (finola_mm/functional/wave_speeds.py), which a map satisfies only
approximately: tools/analysis/residuals.py measures how far. Positions are measured outward from q.
The tool needs no images. It computes in float64 on the CPU, which takes minutes for C = 3072. Files
in --out:
    speeds.png     the speeds of the four quadrants in the complex plane
    summary.csv    the share of complex speeds, absolute values and two condition numbers: that of
                   B on zero-mean vectors (BP), the factor by which errors of the matrices are
                   amplified in the speeds; and that of V, infinite if A B^-1 is not diagonalizable
    speeds.csv     all speeds
"""

import argparse
import math
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from finola_mm.apis import (
    add_cfg_options,
    add_config_and_checkpoint,
    command_line,
    load_config,
    make_folder,
    progress,
    write_csv,
)
from finola_mm.apis.inference import find_finola, load_model
from finola_mm.errors import UserError
from finola_mm.functional.wave_speeds import QUADRANTS, wave_speeds, zero_mean_condition

matplotlib.use('Agg')

SHOWN = 0.9  # share of the speeds inside the figure, since A B^-1 has a long tail


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Compute the wave speeds of a trained FINOLA')
    add_config_and_checkpoint(parser)
    parser.add_argument('--out', required=True, help='folder for the figure and the tables')
    add_cfg_options(parser)
    return parser.parse_args(argv)


def analyse(A: Tensor, B: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Return the speeds (C-1,) of one quadrant, and its row of summary.csv.

    If B is singular on zero-mean vectors, the speeds are empty (0,) and the row contains NaN.
    """
    summary = dict(condition_b=zero_mean_condition(B))
    try:
        speeds, vectors = wave_speeds(A, B)
    except ValueError as error:
        print(f'\n{error}', file=sys.stderr)
        speeds, condition_v, share = torch.empty(0, dtype=torch.complex128), math.nan, math.nan
    else:
        values = torch.linalg.svdvals(vectors)
        condition_v = (values[0] / values[-1]).item()
        # LAPACK returns real eigenvalues of a real matrix with an imaginary part of exactly 0.
        share = (speeds.imag != 0).double().mean().item()
    absolute = speeds.abs().sort().values if len(speeds) else torch.full((1,), math.nan)
    return speeds, dict(
        summary,
        condition_v=condition_v,
        complex_share=share,
        slowest=absolute[0].item(),
        median=absolute[len(absolute) // 2].item(),
        fastest=absolute[-1].item(),
    )


def draw(speeds: dict[tuple[str, str], Tensor], path: Path) -> None:
    known = torch.cat([torch.view_as_real(s).abs().amax(1) for s in speeds.values()])
    limit = 1.1 * torch.quantile(known, SHOWN).item()
    figure, axes = plt.subplots(
        2, 2, figsize=(8, 8.6), sharex=True, sharey=True, layout='constrained'
    )
    circle = torch.linspace(0, 2 * math.pi, 200)
    for axis, (pair, s) in zip(axes.flat, speeds.items(), strict=True):
        axis.plot(circle.cos(), circle.sin(), color='0.7', linewidth=0.8)
        is_real = s.imag == 0
        for mask, color in ((~is_real, 'C0'), (is_real, 'C3')):
            axis.scatter(s.real[mask], s.imag[mask], s=10, alpha=0.7, linewidth=0, color=color)
        outside = int((torch.view_as_real(s).abs().amax(1) > limit).sum())
        counts = f'{int((~is_real).sum())} complex, {int(is_real.sum())} real, {outside} outside'
        axis.set_title(f'{QUADRANTS[pair]}: {", ".join(pair)}\n{counts}', fontsize=10)
        axis.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect='equal')
        axis.grid(alpha=0.3)
    figure.suptitle('Wave speeds: complex (blue), real (red); circle: absolute value 1')
    figure.supxlabel('real part')
    figure.supylabel('imaginary part')
    figure.savefig(path, dpi=130)
    plt.close(figure)


def print_table(summaries: dict[tuple, dict]) -> None:
    print('| quadrant | cond(BP) | cond(V) | complex | slowest | median | fastest |')
    print('|---|---|---|---|---|---|---|')
    for pair, row in summaries.items():
        speeds = ' | '.join(f'{row[name]:.3g}' for name in ('slowest', 'median', 'fastest'))
        print(
            f'| {", ".join(pair)} | {row["condition_b"]:.3g} | {row["condition_v"]:.3g} | '
            f'{100 * row["complex_share"]:.1f} % | {speeds} |'
        )


@command_line
def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    out = make_folder(args.out)
    model = load_model(load_config(args.config, options=args.cfg_options), args.checkpoint)
    finola = find_finola(model)
    speeds, summaries = {}, {}
    for a, b in progress(list(QUADRANTS), 'quadrants'):
        matrices = (getattr(finola, name).detach().cpu() for name in (a, b))
        speeds[a, b], summaries[a, b] = analyse(*matrices)
    print_table(summaries)
    if not any(len(s) for s in speeds.values()):
        raise UserError('no quadrant has wave equations; see the messages above')
    write_csv(out / 'summary.csv', [dict(a=a, b=b, **row) for (a, b), row in summaries.items()])
    rows = [
        dict(a=a, b=b, real=s.real, imaginary=s.imag)
        for (a, b), values in speeds.items()
        for s in values.tolist()
    ]
    write_csv(out / 'speeds.csv', rows)
    draw(speeds, out / 'speeds.png')
    print(f'wrote speeds.png, summary.csv and speeds.csv to {out}')


if __name__ == '__main__':
    main()
