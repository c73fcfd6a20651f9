"""Tables and curves of studies/pretraining.py for docs/results.md."""

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from pretraining import (
    DETERMINISTIC,
    LONG_SEED,
    METHODS,
    NUM_EVALS,
    PROTOCOLS,
    RANDOM_INIT,
    SHORT_SEEDS,
    eval_steps,
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
    failed = {(row['method'], int(row['seed'])): row['note'] for row in rows if row['note']}
    yield f'\n**The long runs** (top-1 in percent, {describe_seeds([LONG_SEED])})\n'
    yield from table(found, failed, [LONG_SEED], PROTOCOLS)
    yield f'\n**The short runs** (top-1 in percent, {describe_seeds(SHORT_SEEDS)})\n'
    yield from table(found, failed, SHORT_SEEDS, DETERMINISTIC)
    for protocol in DETERMINISTIC:
        yield from curve(found, failed, protocol)


def table(found: dict, failed: dict, seeds: Sequence[int], protocols: Sequence) -> Iterator[str]:
    yield f'| pre-training | steps | {" | ".join(protocols)} |'
    yield f'|---|---|{"---|" * len(protocols)}'
    for method in (RANDOM_INIT, *METHODS):
        end = eval_steps(method, seeds[0])[-1]
        cells = [
            '–'
            if method == RANDOM_INIT and protocol not in DETERMINISTIC  # not evaluated
            else cell(found, failed, [(method, seed, protocol, end) for seed in seeds])
            for protocol in protocols
        ]
        yield f'| {method} | {0 if method == RANDOM_INIT else end} | {" | ".join(cells)} |'


def describe_seeds(seeds: Sequence[int]) -> str:
    return f'seed {seeds[0]}' if len(seeds) == 1 else f'mean of the seeds {list(seeds)}, and each'


def cell(found: dict, failed: dict, keys: list[tuple]) -> str:
    """Format the finished seeds: one value, or their mean followed by each value."""
    values = [float(found[key]) for key in keys if key in found]
    if notes := {failed[key[:2]] for key in keys if key not in found and key[:2] in failed}:
        return ', '.join(notes)
    if not values:
        return NOT_RUN
    each = f' ({", ".join(f"{v:.1f}" for v in values)})' if len(values) > 1 else ''
    each += f' (one seed of {len(keys)})' if len(values) < len(keys) else ''
    return f'{statistics.mean(values):.1f}{each}'


def curve(found: dict, failed: dict, protocol: str) -> Iterator[str]:
    """Tabulate the accuracy of the long seed over time."""
    yield f'\n**{protocol} while training, seed {LONG_SEED}** (top-1 in percent)\n'
    shares = ' | '.join(f'{k}/{NUM_EVALS}' for k in range(1, NUM_EVALS + 1))
    yield f'| of the steps | {shares} |\n|---|{"---|" * NUM_EVALS}'
    for method in METHODS:
        if method != 'random':
            default = failed.get((method, LONG_SEED), NOT_RUN)
            values = [
                found.get((method, LONG_SEED, protocol, k), default)
                for k in eval_steps(method, LONG_SEED)
            ]
            yield f'| {method} | {" | ".join(values)} |'


def draw(rows: list[dict]) -> None:
    """Plot accuracy over images for each method whose long seed has run, if any."""
    import matplotlib.pyplot as plt  # slow to import, needed here only

    rows = [row for row in rows if int(row['seed']) == LONG_SEED and not row['note']]
    if not rows:
        return
    figure, axes = plt.subplots(1, len(DETERMINISTIC), figsize=(9, 3.5), layout='constrained')
    for ax, protocol in zip(axes, DETERMINISTIC, strict=True):
        for method in (RANDOM_INIT, *METHODS):
            line = [
                (BATCH * int(row['after']) / 1e3, float(row['top1']))
                for row in rows
                if (row['method'], row['protocol']) == (method, protocol)
            ]
            if method.startswith('random') and line:
                dashes = '--' if method == RANDOM_INIT else ':'
                ax.axhline(line[0][1], color='grey', linestyle=dashes, label=method)
            elif line:
                ax.plot(*zip(*sorted(line), strict=True), marker='.', label=method)
        ax.set(title=f'{protocol}, frozen encoder', xlabel='thousand images', ylabel='top-1, %')
        ax.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(PICTURE, dpi=110, metadata={'Software': None})
    plt.close(figure)
