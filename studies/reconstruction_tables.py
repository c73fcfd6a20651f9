"""Tables of studies/reconstruction.py for docs/results.md."""

import statistics
from collections.abc import Iterator

import reconstruction
from study import NOT_RUN


def tables(rows: list[dict]) -> Iterator[str]:
    found = {
        (row['data'], row['variant'], int(row['seed']), int(row['steps'])): row for row in rows
    }
    yield from comparisons(found)
    yield from lengths_of_training(found)
    yield from per_photograph(found)


def comparisons(rows: dict) -> Iterator[str]:
    """Write one table for each comparison, with a row per variant and a column per data set."""
    lengths = dict.fromkeys((data, steps) for data, _, _, steps in reconstruction.SETTINGS)
    for title, variants in reconstruction.TABLES.items():
        heads = [f'{data}, {steps} steps' for data, steps in lengths]
        yield f'\n**{title}** (PSNR in dB / SSIM)\n'
        yield f'| variant | {" | ".join(heads)} |\n|---|{"---|" * len(heads)}'
        for variant in variants:
            yield f'| {variant} | {" | ".join(cell(rows, variant, *key) for key in lengths)} |'


def cell(rows: dict, variant: str, data: str, steps: int) -> str:
    """Format the finished seeds of this length: one value, or their mean followed by each value."""
    settings = (*reconstruction.SETTINGS, reconstruction.LONGEST)
    seeds = [seed for d, _, seed, s in settings if (d, s) == (data, steps)]
    keys = [(data, variant, seed, steps) for seed in seeds]
    found = [rows[key] for key in keys if key in rows]
    if notes := {row['note'] for row in found if row['note']}:
        return ', '.join(notes)
    if not found:
        return NOT_RUN
    values = [float(row['psnr']) for row in found]
    ssim = statistics.mean(float(row['ssim']) for row in found)
    each = f' ({", ".join(f"{v:.2f}" for v in values)})' if len({*values}) > 1 else ''
    each += f' (one seed of {len(seeds)})' if len(found) < len(seeds) else ''
    return f'{statistics.mean(values):.2f}{each} / {ssim:.3f}'


def lengths_of_training(rows: dict) -> Iterator[str]:
    """Compare lengths of training for one variant on the shapes."""
    settings = (*reconstruction.SETTINGS, reconstruction.LONGEST)
    steps = sorted({steps for data, _, _, steps in settings if data == 'shapes'})
    yield '\n**Longer training, C = 256 on shapes** (PSNR in dB / SSIM)\n'
    yield f'| steps | {" | ".join(map(str, steps))} |\n|---|{"---|" * len(steps)}'
    yield f'| | {" | ".join(cell(rows, "C = 256", "shapes", s) for s in steps)} |'


def per_photograph(rows: dict) -> Iterator[str]:
    """Write the PSNR of each held-out photograph for all sizes of the latent vector."""
    variants = reconstruction.TABLES['The size of the vector']
    yield '\n**Each photograph, left out of the training** (PSNR in dB)\n'
    yield f'| photograph | steps | {" | ".join(variants)} |\n|---|---|{"---|" * len(variants)}'
    for data, _, seed, steps in reconstruction.SETTINGS:
        found = [rows.get((data, variant, seed, steps)) for variant in variants]
        scored = next((row for row in found if row and row['folders']), None)
        if data == 'photographs' and scored:
            for name in folders(scored):
                cells = ' | '.join(photograph_cell(row, name) for row in found)
                yield f'| {name} | {steps} | {cells} |'


def photograph_cell(row: dict | None, name: str) -> str:
    return NOT_RUN if row is None else row['note'] or folders(row)[name]


def folders(row: dict) -> dict[str, str]:
    """Return folder -> PSNR in dB of a row with scores."""
    return dict(pair.split('=') for pair in row['folders'].split())
