"""The tables and the curve of studies/pretraining.py in docs/results.md."""

import statistics
from collections.abc import Iterator
from pathlib import Path

from pretraining import AS_DRAWN, LENGTHS, METHODS, POINTS, PROTOCOLS, points
from study import NOT_RUN

PICTURE = Path('docs/pretraining.png')
CURVE = ('kNN', 'linear')


def tables(rows: list[dict]) -> Iterator[str]:
    found = {
        (row['method'], int(row['seed']), int(row['steps']), row['protocol'], int(row['after'])):
        row['top1'] for row in rows if not row['note']
    }
    broken = {(row['method'], int(row['seed']), int(row['steps'])): row['note']
              for row in rows if row['note']}
    for steps in POINTS:
        seeds = [seed for seed, length in LENGTHS if length == steps]
        yield f'\n**After {steps} steps** (top-1 in percent, {named(seeds)})\n'
        yield f'| pre-training | {" | ".join(PROTOCOLS)} |\n|---|{"---|" * len(PROTOCOLS)}'
        for method in (AS_DRAWN, *METHODS):
            end = points(method, steps)[-1]
            keys = [[(method, seed, steps, protocol, end) for seed in seeds]
                    for protocol in (CURVE if method == AS_DRAWN else PROTOCOLS)]
            cells = [cell(found, broken, key) for key in keys]
            cells += ['–'] * (len(PROTOCOLS) - len(cells))  # not asked for
            yield f'| {method} | {" | ".join(cells)} |'
    for protocol in CURVE:
        yield from curve(found, broken, protocol)


def named(seeds: list[int]) -> str:
    return f'seed {seeds[0]}' if len(seeds) == 1 else f'mean of the seeds {seeds}, and each'


def cell(found: dict, broken: dict, keys: list[tuple]) -> str:
    """The seeds that have run: one value, or their mean and each of them."""
    values = [float(found[key]) for key in keys if key in found]
    if notes := {broken[key[:3]] for key in keys if key not in found and key[:3] in broken}:
        return ', '.join(notes)
    if not values:
        return NOT_RUN
    each = f' ({", ".join(f"{v:.1f}" for v in values)})' if len(values) > 1 else ''
    each += f' (one seed of {len(keys)})' if len(values) < len(keys) else ''
    return f'{statistics.mean(values):.1f}{each}'


def curve(found: dict, broken: dict, protocol: str) -> Iterator[str]:
    """The long seed, from point to point."""
    (seed, steps), *_ = LENGTHS
    yield f'\n**{protocol} while training, seed {seed}** (top-1 in percent)\n'
    yield f'| after | {" | ".join(map(str, POINTS[steps]))} |\n|---|{"---|" * len(POINTS[steps])}'
    for method in METHODS:
        if method != 'random':
            lacking = broken.get((method, seed, steps), NOT_RUN)
            values = [found.get((method, seed, steps, protocol, k), lacking)
                      for k in POINTS[steps]]
            yield f'| {method} | {" | ".join(values)} |'


def draw(rows: list[dict]) -> None:
    """Accuracy against steps for the methods whose long seed has run; nothing without one."""
    import matplotlib.pyplot as plt  # only once there is something to draw

    (seed, steps), *_ = LENGTHS
    rows = [row for row in rows
            if (int(row['seed']), int(row['steps'])) == (seed, steps) and not row['note']]
    if not rows:
        return
    figure, axes = plt.subplots(1, len(CURVE), figsize=(9, 3.5), layout='constrained')
    for ax, protocol in zip(axes, CURVE, strict=True):
        for method in (AS_DRAWN, *METHODS):
            line = [(int(row['after']), float(row['top1'])) for row in rows
                    if (row['method'], row['protocol']) == (method, protocol)]
            if method.startswith('random') and line:
                dashes = '--' if method == AS_DRAWN else ':'
                ax.axhline(line[0][1], color='grey', linestyle=dashes, label=method)
            elif line:
                ax.plot(*zip(*sorted(line), strict=True), marker='.', label=method)
        ax.set(title=f'{protocol}, frozen encoder', xlabel='steps of 64 images', ylabel='top-1, %')
        ax.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(PICTURE, dpi=110, metadata={'Software': None})
    plt.close(figure)
