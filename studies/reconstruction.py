"""Compare variants of FINOLA by reconstructing small images from a single latent vector each.

The variants of the papers' tables at a small size: images of 64 x 64, minutes on a CPU. Settings
that a variant does not name are those of CONFIG: C = 256, one path, the norm, q in the centre.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from study import Run, Step, format_scores, read_log, train

CONFIG = 'configs/study/reconstruction.py'
CSV = 'studies/reconstruction.csv'
SCORE = 'psnr'
COLUMNS = ('data', 'variant', 'seed', 'steps', 'psnr', 'ssim', 'folders')


def channels(c: int, paths: int = 1) -> dict:
    return {
        'model.neck.channels': c,
        'model.neck.num_paths': paths,
        'model.upsampler.in_channels': c,
    }


VARIANTS = {
    'C = 64': channels(64),
    'C = 128': channels(128),
    'C = 256': channels(256),
    'C = 512': channels(512),
    '2 paths of 128': channels(128, 2),
    '4 paths of 64': channels(64, 4),
    '4 paths of 128': channels(128, 4),
    'origin in the corner': {'model.neck.origin': (0, 0)},
    'no norm': {'model.neck.step': 'linear'},
    'norm by moving averages': {'model.neck.step': 'norm_moving'},
    'two-layer step': {'model.neck.step': 'nonlinear'},
    'q repeated': {'model.neck.step': 'repeat'},
    'q repeated, as many parameters': {'model.neck.step': 'repeat_matched'},
}
# Codes of the same size, fitted to the same files: tools/analysis/latent_baselines.py
LATENTS = (64, 128, 256, 512)
BASELINES = [
    f'{method}, {k} numbers'
    for method in (
        'pca',
        'dct 8 fixed',
        'dct 64 fixed',
        'dct 8 largest',
        'dct 64 largest',
        'autoencoder',
    )
    for k in LATENTS
]
# Tables of the report: title -> variants.
TABLES = {
    'The size of the vector': ['C = 64', 'C = 128', 'C = 256', 'C = 512'],
    'Paths, a latent of 256 numbers': ['C = 256', '2 paths of 128', '4 paths of 64'],
    'Paths of 128 channels, a growing latent': ['C = 128', '2 paths of 128', '4 paths of 128'],
    'What the step needs, C = 256': [
        'C = 256',
        'origin in the corner',
        'no norm',
        'norm by moving averages',
        'two-layer step',
        'q repeated',
        'q repeated, as many parameters',
    ],
    'Other codes of as many numbers': BASELINES,
}

# (data, folder, seed, steps): two short seeds and a longer one. Each seed of the photographs holds
# out another third of them (tools/dataset_converters/crop_photographs.py).
SETTINGS = [
    ('shapes', 'data/shapes/imagenet', 1, 250),
    ('shapes', 'data/shapes/imagenet', 2, 250),
    ('photographs', 'data/photographs/fold1', 1, 250),
    ('photographs', 'data/photographs/fold2', 2, 250),
    ('shapes', 'data/shapes/imagenet', 0, 1200),
    ('photographs', 'data/photographs/fold0', 0, 1200),
]
# The longest run, about 15 minutes; its weights are published in demo/.
LONGEST = ('shapes', 'data/shapes/imagenet', 0, 5000)
PREPARE = [
    ['tools/dataset_converters/make_shapes.py', '--out', 'data/shapes'],
    ['tools/dataset_converters/crop_photographs.py', '--out', 'data/photographs'],
]


def runs() -> Iterator[Run]:
    """List all runs, in order of execution."""
    for setting in SETTINGS:
        for variant in VARIANTS:
            yield train_variant(variant, *setting)
        yield fit_baselines(*setting)
    yield train_variant('C = 256', *LONGEST)


def train_variant(variant: str, data: str, folder: str, seed: int, steps: int) -> Run:
    options = {**VARIANTS[variant], **schedule(steps), **data_root(folder), 'randomness.seed': seed}
    return Run(
        dict(data=data, seed=seed, steps=steps, variant=variant),
        lambda work_dir: [train(CONFIG, options, work_dir / 'training', scores=trained_scores)],
    )


def fit_baselines(data: str, folder: str, seed: int, steps: int) -> Run:
    """Fit all baselines in one run; steps and seed apply to the autoencoder."""
    return Run(
        dict(data=data, seed=seed, steps=steps, variant='baselines'),
        lambda work_dir: [baselines(folder, work_dir / 'baselines.csv', seed, steps)],
    )


def schedule(steps: int) -> dict:
    return {
        'train_cfg.max_iters': steps,
        'train_cfg.val_interval': steps,
        'param_scheduler.1.T_max': steps - 30,
        'param_scheduler.1.end': steps,
    }


def data_root(folder: str) -> dict:
    loaders = ('train_dataloader', 'val_dataloader', 'test_dataloader')
    return {f'{loader}.dataset.dataset.data_root': folder for loader in loaders}


def trained_scores(out: Path) -> list[dict]:
    """Read the scores of the last validation from the log."""
    log = read_log(out, 'image/psnr')
    of_folder = {name: value for name, value in log.items() if name.startswith('image/psnr/')}
    folders = ' '.join(f'{Path(name).name}={value:.2f}' for name, value in of_folder.items())
    return [dict(format_scores(psnr=log['image/psnr'], ssim=log['image/ssim']), folders=folders)]


def baselines(folder: str, out: Path, seed: int, steps: int) -> Step:
    command = [
        'tools/analysis/latent_baselines.py',
        '--train',
        f'{folder}/train',
        '--val',
        f'{folder}/val',
        '--latent',
        *map(str, LATENTS),
        '--size',
        '64',
        '--steps',
        str(steps),
        '--batch-size',
        '16',
        '--seed',
        str(seed),
        '--out',
        str(out),
    ]
    return Step(command, out, baseline_scores)


def baseline_scores(out: Path) -> list[dict]:
    with open(out, newline='') as file:
        return [
            dict(
                format_scores(psnr=float(row['psnr']), ssim=float(row['ssim'])),
                variant=f'{row["method"]}, {row["latent"]} numbers',
            )
            for row in csv.DictReader(file)
        ]
