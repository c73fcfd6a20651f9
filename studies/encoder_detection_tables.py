"""Table of studies/encoder_detection.py for docs/results.md."""

from collections.abc import Iterator

from detection_tables import minutes
from encoder_detection import ENCODERS, SEEDS
from study import NOT_RUN


def tables(rows: list[dict]) -> Iterator[str]:
    yield '\n**RTMDet on ResNet-18, held-out scenes of photopaste** (AP / AP50 in percent)\n'
    yield f'| encoder | {" | ".join(f"seed {seed}" for seed in SEEDS)} | minutes |'
    yield f'|---|{"---|" * (len(SEEDS) + 1)}'
    for encoder in ENCODERS:
        of_encoder = [row for row in rows if row['encoder'] == encoder]
        cells = [cell(of_encoder, seed) for seed in SEEDS]
        yield f'| {encoder} | {" | ".join([*cells, minutes(of_encoder)])} |'


def cell(rows: list[dict], seed: int) -> str:
    for row in rows:
        if row['seed'] == str(seed):
            return row['note'] or f'{100 * float(row["ap"]):.1f} / {100 * float(row["ap50"]):.1f}'
    return NOT_RUN
