"""Train FINOLA on photographs on a GPU, for four minutes in all: C = 64 and C = 256.

    python studies/study.py latents_gpu

The model is that of studies/latents.py, and the rows are appended to the same CSV. The photographs
are those of make_photos.py --tiny; for a machine without a network, copy data/photos-tiny to it. A
short first training measures the time of a step, from which the length of the second one follows.
"""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from latents import COLUMNS, CONFIG, CSV, LATENTS, SCORE, SEED, train_and_test  # noqa: F401
from reconstruction import channels, data_root, schedule
from study import Run, Step, read_log, train

VARIANT = 'two minutes of a GPU'
DATA = 'data/photos-tiny'
PREPARE = [['tools/dataset_converters/make_photos.py', '--out', DATA, '--tiny']]
TRIAL_STEPS = 100
SECONDS = 80  # of the second training; starting three processes takes some of the two minutes
BATCH_SIZE = 256
OPTIONS = {
    'train_dataloader.batch_size': BATCH_SIZE,
    'train_dataloader.num_workers': os.cpu_count(),
    'train_dataloader.persistent_workers': True,
    # Twice the learning rate of CONFIG, for a batch 16 times as large
    'optim_wrapper.optimizer.lr': 2e-3,
    'randomness.seed': SEED,
    **data_root(f'{DATA}/photos'),
}


def runs() -> Iterator[Run]:
    for latent in LATENTS:
        keys = dict(data='photographs, 320 pixels', variant=VARIANT, latent=latent, seed=SEED)
        yield Run(keys, partial(train_two_minutes, latent))


def train_two_minutes(latent: int, work_dir: Path) -> Iterator[Step]:
    options = channels(latent) | OPTIONS
    trial = work_dir / 'trial'
    yield train(CONFIG, options | schedule(TRIAL_STEPS), trial, '--no-validate')
    steps = max(TRIAL_STEPS, int(SECONDS / read_log(trial, 'time')['time']))
    yield from train_and_test(CONFIG, options | schedule(steps), steps, work_dir)
