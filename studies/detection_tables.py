"""Table of studies/detection.py for docs/results.md."""

import statistics
from collections.abc import Iterator

from detection import ENCODERS, SEEDS, TRAININGS
from pretraining_tables import describe_seeds
from study import NOT_RUN

SCORES = {'ap': 'AP', 'ap50': 'AP50'}


def tables(rows: list[dict]) -> Iterator[str]:
    columns = [(training, score) for training in TRAININGS for score in SCORES]
    heads = [f'{training}: {SCORES[score]}' for training, score in columns]
    yield f'\n**On held-out scenes** (in percent, {describe_seeds(list(SEEDS))})\n'
    yield f'| encoder | {" | ".join(heads)} | minutes of both |\n|---|{"---|" * (len(columns) + 1)}'
    for encoder in ENCODERS:
        of_encoder = [row for row in rows if row['encoder'] == encoder]
        cells = [cell(of_encoder, *column) for column in columns]
        yield f'| {encoder} | {" | ".join([*cells, minutes(of_encoder)])} |'


def cell(rows: list[dict], training: str, score: str) -> str:
    """Format the mean over the seeds, or the reason why there is none."""
    values = [100 * float(row[score]) for row in rows if row['training'] == training]
    notes = {row['note'] for row in rows if row['note']}
    if values:
        return f'{statistics.mean(values):.1f}'
    return ', '.join(notes) or NOT_RUN


def minutes(rows: list[dict]) -> str:
    """Format the minutes of a run, mean over the seeds; all rows of a run hold the same value."""
    of_seed = {row['seed']: float(row['minutes']) for row in rows}
    return f'{statistics.mean(of_seed.values()):.0f}' if of_seed else NOT_RUN
