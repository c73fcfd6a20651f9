"""Tables of studies/latents.py for docs/results.md."""

from collections.abc import Iterator

from latents import BATCH, BATCH_STEPS, LATENTS, VARIANTS
from latents_gpu import BATCH_SIZE
from latents_gpu import VARIANT as GPU
from study import NOT_RUN


def tables(rows: list[dict]) -> Iterator[str]:
    found = {
        (row['variant'], row['latent'], row['steps'], row['images']): f'{float(row["psnr"]):.2f}'
        for row in rows
        if row['psnr']
    }
    found |= {(row['variant'], row['latent']): row['note'] for row in rows if row['note']}
    yield from one_batch(found)
    yield from photographs(found)
    yield from on_gpu(rows)


def one_batch(found: dict) -> Iterator[str]:
    lengths = (50, 100, 200, BATCH_STEPS)
    yield '\n**One batch of 16 photographs, overfitted** (PSNR in dB)\n'
    yield f'| | C | {" | ".join(f"{steps} steps" for steps in lengths)} |'
    yield f'|---|---|{"---|" * len(lengths)}'
    for variant, (_, latents) in BATCH.items():
        for latent in latents:
            cells = [cell(found, variant, latent, steps, 'train') for steps in lengths]
            yield f'| {variant} | {latent} | {" | ".join(cells)} |'


def photographs(found: dict) -> Iterator[str]:
    heads = [f'{images}, C = {latent}' for images in ('val', 'train') for latent in LATENTS]
    yield '\n**Photographs** (PSNR in dB)\n'
    yield f'| | steps | {" | ".join(heads)} |\n|---|---|{"---|" * len(heads)}'
    for variant, (_, _, steps) in VARIANTS.items():
        cells = [
            cell(found, variant, latent, steps, images)
            for images in ('val', 'train')
            for latent in LATENTS
        ]
        yield f'| {variant} | {steps} | {" | ".join(cells)} |'


def on_gpu(rows: list[dict]) -> Iterator[str]:
    yield f'\n**Photographs of 320 pixels, {GPU}, batches of {BATCH_SIZE}** (PSNR in dB)\n'
    yield '| C | steps | val | train | machine |\n|---|---|---|---|---|'
    for latent in LATENTS:
        mine = [row for row in rows if (row['variant'], row['latent']) == (GPU, str(latent))]
        found = {row['images']: f'{float(row["psnr"]):.2f}' for row in mine if row['psnr']}
        common = mine[0] if mine else dict(steps='', machine='', note='')
        values = [found.get(images, common['note'] or NOT_RUN) for images in ('val', 'train')]
        yield f'| {latent} | {common["steps"]} | {" | ".join(values)} | {common["machine"]} |'


def cell(found: dict, variant: str, latent: int, steps: int, images: str) -> str:
    """Format the PSNR of a finished run, or the reason why there is none."""
    note = found.get((variant, str(latent)))
    return note or found.get((variant, str(latent), str(steps), images), NOT_RUN)
