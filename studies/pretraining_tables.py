"""The tables and the curve of studies/pretraining.py in docs/results.md."""

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from pretraining import (
    AS_DRAWN,
    LONG_SEED,
    METHODS,
    POINTS,
    PROTOCOLS,
    SHORT_SEEDS,
    WITHOUT_CHANCE,
    points,
)
from study import NOT_RUN

PICTURE = Path('docs/pretraining.png')
BATCH = 64


def tables(rows: list[dict]) -> Iterator[str]:
    found = {
        (row['method'], int(row['seed']), row['protocol'], int(row['after'])): row['top1']
        for row in rows
        if not row['note']
    }
    broken = {(row['method'], int(row['seed'])): row['note'] for row in rows if row['note']}
    yield f'\n**The long runs** (top-1 in percent, {named([LONG_SEED])})\n'
    yield from table(found, broken, [LONG_SEED], PROTOCOLS)
    yield f'\n**The short runs** (top-1 in percent, {named(SHORT_SEEDS)})\n'
    yield from table(found, broken, SHORT_SEEDS, WITHOUT_CHANCE)
    for protocol in WITHOUT_CHANCE:
        yield from curve(found, broken, protocol)


def table(found: dict, broken: dict, seeds: Sequence[int], protocols: Sequence) -> Iterator[str]:
    yield f'| pre-training | steps | {" | ".join(protocols)} |'
    yield f'|---|---|{"---|" * len(protocols)}'
    for method in (AS_DRAWN, *METHODS):
        end = points(method, seeds[0])[-1]
        cells = [
            '–'
            if method == AS_DRAWN and protocol not in WITHOUT_CHANCE  # not asked for
            else cell(found, broken, [(method, seed, protocol, end) for seed in seeds])
            for protocol in protocols
        ]
        yield f'| {method} | {0 if method == AS_DRAWN else end} | {" | ".join(cells)} |'


def named(seeds: Sequence[int]) -> str:
    return f'seed {seeds[0]}' if len(seeds) == 1 else f'mean of the seeds {list(seeds)}, and each'


def cell(found: dict, broken: dict, keys: list[tuple]) -> str:
    """The seeds that have run: one value, or their mean and each of them."""
    values = [float(found[key]) for key in keys if key in found]
    if notes := {broken[key[:2]] for key in keys if key not in found and key[:2] in broken}:
        return ', '.join(notes)
    if not values:
        return NOT_RUN
    each = f' ({", ".join(f"{v:.1f}" for v in values)})' if len(values) > 1 else ''
    each += f' (one seed of {len(keys)})' if len(values) < len(keys) else ''
    return f'{statistics.mean(values):.1f}{each}'


def curve(found: dict, broken: dict, protocol: str) -> Iterator[str]:
    """The long seed, from point to point."""
    yield f'\n**{protocol} while training, seed {LONG_SEED}** (top-1 in percent)\n'
    shares = ' | '.join(f'{k}/{POINTS}' for k in range(1, POINTS + 1))
    yield f'| of the steps | {shares} |\n|---|{"---|" * POINTS}'
    for method in METHODS:
        if method != 'random':
            lacking = broken.get((method, LONG_SEED), NOT_RUN)
            values = [
                found.get((method, LONG_SEED, protocol, k), lacking)
                for k in points(method, LONG_SEED)
            ]
            yield f'| {method} | {" | ".join(values)} |'


def draw(rows: list[dict]) -> None:
    """Accuracy against images for the methods whose long seed has run; nothing without one."""
    import matplotlib.pyplot as plt  # only once there is something to draw

    rows = [row for row in rows if int(row['seed']) == LONG_SEED and not row['note']]
    if not rows:
        return
    figure, axes = plt.subplots(1, len(WITHOUT_CHANCE), figsize=(9, 3.5), layout='constrained')
    for ax, protocol in zip(axes, WITHOUT_CHANCE, strict=True):
        for method in (AS_DRAWN, *METHODS):
            line = [
                (BATCH * int(row['after']) / 1e3, float(row['top1']))
                for row in rows
                if (row['method'], row['protocol']) == (method, protocol)
            ]
            if method.startswith('random') and line:
                dashes = '--' if method == AS_DRAWN else ':'
                ax.axhline(line[0][1], color='grey', linestyle=dashes, label=method)
            elif line:
                ax.plot(*zip(*sorted(line), strict=True), marker='.', label=method)
        ax.set(title=f'{protocol}, frozen encoder', xlabel='thousand images', ylabel='top-1, %')
        ax.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(PICTURE, dpi=110, metadata={'Software': None})
    plt.close(figure)
