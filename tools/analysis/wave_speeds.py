"""The wave speeds of a trained FINOLA, and how well its wave equations are conditioned.

    python tools/analysis/wave_speeds.py configs/selfsup/finola.py work_dirs/finola \\
        --out work_dirs/waves

In every quadrant around q two matrices unroll the map, so there are four pairs of them; each obeys
C-1 one-way wave equations (finola_mm/functional/wave_speeds.py). Positions count away from q.
Prints and writes into --out
    speeds.png     the speeds of the four quadrants in the complex plane
    summary.csv    the share of speeds that are not real, their absolute values, and two condition
                   numbers: of B on the vectors of mean zero (BP), by which errors of the matrices
                   grow in the speeds, and of V, infinite where A B^-1 cannot be diagonalised
    speeds.csv     all speeds
Needs no images. C = 3072 takes minutes, in float64 on the CPU.
"""

import argparse
import csv
import math
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import torch
from mmengine.utils import track_iter_progress
from torch import Tensor, nn

from finola_mm.apis import CfgOptions, load_config
from finola_mm.apis.inference import load_model
from finola_mm.functional.wave_speeds import mean_free_condition, wave_speeds

matplotlib.use('Agg')

# Where they stand in the picture, as on the map: rows up and down, columns left and right.
QUADRANTS = {
    ('A_neg', 'B_neg'): 'up and left',
    ('A', 'B_neg'): 'up and right',
    ('A_neg', 'B'): 'down and left',
    ('A', 'B'): 'down and right',
}
SHOWN = 0.9  # of all speeds lie inside the picture's frame; the tail of A B^-1 is long


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Wave speeds of a trained FINOLA')
    parser.add_argument('config', help='config file of the pre-training')
    parser.add_argument('checkpoint', help='checkpoint file, or a work directory for its last one')
    parser.add_argument('--out', required=True, help='folder for the picture and the tables')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, help='settings, key=value')
    return parser.parse_args()


def find_finola(model: nn.Module) -> nn.Module:
    """The model's ``FINOLA`` with its four matrices; ValueError for one with other steps."""
    finola = getattr(model.neck, 'finola', None)
    step = getattr(finola, 'step', 'norm_linear')
    if finola is None or step != 'norm_linear':
        raise ValueError(
            f'{type(model.neck).__name__} has no norm+linear steps (step: {step!r}), to which '
            "alone the wave equations belong; take a model with step='norm_linear'"
        )
    return finola


def analyse(A: Tensor, B: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Speeds (C-1,) of one quadrant, and what summary.csv says of them.

    A B that is singular on the vectors of mean zero has no speeds, (0,), and NaN for the rest.
    """
    summary = dict(condition_b=mean_free_condition(B))
    try:
        speeds, vectors = wave_speeds(A, B)
    except ValueError as error:
        print(f'\n{error}', file=sys.stderr)
        speeds, condition_v, share = torch.empty(0, dtype=torch.complex128), math.nan, math.nan
    else:
        values = torch.linalg.svdvals(vectors)
        condition_v = (values[0] / values[-1]).item()
        # Real matrices: LAPACK gives conjugate pairs and real ones whose imaginary part is 0.
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


def write(out: Path, speeds: dict[tuple, Tensor], summaries: dict[tuple, dict]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with (out / 'summary.csv').open('w', newline='') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(('a', 'b', *next(iter(summaries.values()))))
        for pair, row in summaries.items():
            writer.writerow((*pair, *(f'{value:.6g}' for value in row.values())))
    with (out / 'speeds.csv').open('w', newline='') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(('a', 'b', 'real', 'imaginary'))
        for pair, values in speeds.items():
            writer.writerows((*pair, f'{s.real:.8g}', f'{s.imag:.8g}') for s in values.tolist())


def print_table(summaries: dict[tuple, dict]) -> None:
    print('| quadrant | cond(BP) | cond(V) | complex | slowest | median | fastest |')
    print('|---|---|---|---|---|---|---|')
    for pair, row in summaries.items():
        speeds = ' | '.join(f'{row[name]:.3g}' for name in ('slowest', 'median', 'fastest'))
        print(
            f'| {", ".join(pair)} | {row["condition_b"]:.3g} | {row["condition_v"]:.3g} | '
            f'{100 * row["complex_share"]:.1f} % | {speeds} |'
        )


def main() -> None:
    args = parse_args()
    speeds, summaries = {}, {}
    try:
        model = load_model(load_config(args.config, options=args.cfg_options), args.checkpoint)
        finola = find_finola(model)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f'wave_speeds: {error}') from None
    for a, b in track_iter_progress(list(QUADRANTS), file=sys.stderr):
        matrices = (getattr(finola, name).detach().cpu() for name in (a, b))
        speeds[a, b], summaries[a, b] = analyse(*matrices)
    print(file=sys.stderr)
    print_table(summaries)
    if not any(len(s) for s in speeds.values()):
        raise SystemExit('wave_speeds: no quadrant has wave equations, see above')
    out = Path(args.out)
    write(out, speeds, summaries)
    draw(speeds, out / 'speeds.png')
    print(f'wrote speeds.png, summary.csv and speeds.csv into {out}')


if __name__ == '__main__':
    main()
