"""Tables of studies/encoders.py for docs/results.md."""

from collections.abc import Iterator

from encoders import CONFIGS, DATA, PROTOCOLS, STEPS
from study import NOT_RUN


def tables(rows: list[dict]) -> Iterator[str]:
    """Yield a table for each data set: top-1 in percent."""
    found = {
        (row['data'], row['encoder'], row['method'], row['protocol']): row['top1'] for row in rows
    }
    minutes = {(row['data'], row['encoder'], row['method']): row['minutes'] for row in rows}
    for data in DATA:
        yield f'\n**{data}** (top-1 in percent)\n'
        yield f'| encoder | pre-training | steps | {" | ".join(PROTOCOLS)} | minutes, in all |'
        yield f'|---|---|---|{"---|" * (len(PROTOCOLS) + 1)}'
        for encoder, method in CONFIGS:
            cells = [
                found.get((data, encoder, method, protocol)) or NOT_RUN for protocol in PROTOCOLS
            ]
            total = minutes.get((data, encoder, method), '')
            yield f'| {encoder} | {method} | {STEPS[method]} | {" | ".join(cells)} | {total} |'
