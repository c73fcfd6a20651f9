"""Find out what limits the reconstruction from one latent vector, and what C is worth.

One batch of photographs is overfitted with parts of the model replaced (studies/overfit.py). Then
FINOLA is trained on photographs, with C = 64 and C = 256 and one setting changed at a time. All
images are 64 x 64, and the model is that of studies/reconstruction.py.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from reconstruction import channels, schedule
from study import Run, Step, format_scores, read_log, train

CSV = 'studies/latents.csv'
SCORE = 'psnr'
COLUMNS = ('data', 'variant', 'latent', 'seed', 'steps', 'images', 'psnr')

SEED = 0
DATA = 'data/photos/photos'
PREPARE = [['tools/dataset_converters/make_photos.py', '--out', 'data/photos']]

# Variant of one batch -> arguments of studies/overfit.py, and the sizes of the vector
BATCH_STEPS = 400
WAVES = ['--map', 'waves', '--matrices-lr', '0.1']
FREE, LINEAR = ['--latent', 'free'], ['--upsampler', 'linear']
BATCH = {
    'FINOLA': ([], (64, 128, 256, 512)),
    'FINOLA, plane waves': (WAVES, (64, 256)),
    'free vectors, any maps': ([*FREE, '--map', 'linear'], (64, 256)),
    'free vectors, linear upsampler': ([*FREE, *LINEAR], (64, 256)),
    'free vectors, linear upsampler, plane waves': ([*FREE, *LINEAR, *WAVES], (64, 256)),
    'autoencoder': (['--latent', 'autoencoder'], (64, 128, 256, 512)),
}

# Variant of training -> config, options, steps
CONFIG, WIDE_ENCODER = 'configs/study/latents.py', 'configs/study/latents_wide.py'
STEPS, LONG, LATENTS = 600, 12_000, (64, 256)
XAVIER = {'type': 'Xavier', 'layer': 'Linear', 'distribution': 'uniform'}
MATRICES_LR = {'optim_wrapper.paramwise_cfg.custom_keys.finola.lr_mult': 0.1}
PLANE_WAVES = {'model.neck.max_frequency': 2.0}
VARIANTS = {
    'lr 1e-3': (CONFIG, {}, STEPS),
    'lr 1e-3, 12,000 steps': (CONFIG, {}, LONG),
    'lr 5e-4': (CONFIG, {'optim_wrapper.optimizer.lr': 5e-4}, STEPS),
    'lr 2e-3': (CONFIG, {'optim_wrapper.optimizer.lr': 2e-3}, STEPS),
    'lr 4e-3': (CONFIG, {'optim_wrapper.optimizer.lr': 4e-3}, STEPS),
    'q drawn 4 times as large': (
        CONFIG,
        {f'model.neck.init_cfg.{name}': value for name, value in {**XAVIER, 'gain': 4}.items()},
        STEPS,
    ),
    'encoder of twice the width': (WIDE_ENCODER, {}, STEPS),
    'upsampler of twice the width': (CONFIG, {'model.upsampler.widths': (64, 32, 32)}, STEPS),
    "a tenth of the matrices' lr": (CONFIG, MATRICES_LR, STEPS),
    'plane waves': (CONFIG, PLANE_WAVES, STEPS),
    "plane waves, a tenth of the matrices' lr": (CONFIG, {**PLANE_WAVES, **MATRICES_LR}, STEPS),
    'the same, 12,000 steps': (CONFIG, {**PLANE_WAVES, **MATRICES_LR}, LONG),
}


def runs() -> Iterator[Run]:
    """List all runs, in order of execution."""
    for variant, (arguments, latents) in BATCH.items():
        for latent in latents:
            yield overfit_batch(variant, arguments, latent)
    for variant, (config, options, steps) in VARIANTS.items():
        for latent in LATENTS:
            yield train_photographs(variant, config, options, steps, latent)


def overfit_batch(variant: str, arguments: list[str], latent: int) -> Run:
    def steps(work_dir: Path) -> list[Step]:
        out = work_dir / 'psnr.json'
        command = ['studies/overfit.py', f'{DATA}/train', '--channels', str(latent), *arguments]
        command += ['--steps', str(BATCH_STEPS), '--seed', str(SEED), '--out', str(out)]
        return [Step(command, out, batch_scores)]

    return Run(dict(data='16 photographs', variant=variant, latent=latent, seed=SEED), steps)


def batch_scores(out: Path) -> list[dict]:
    found = json.loads(out.read_text())
    return [
        dict(format_scores(psnr=value), steps=steps, images='train')
        for steps, value in found.items()
    ]


def train_photographs(variant: str, config: str, options: dict, steps: int, latent: int) -> Run:
    options = {**channels(latent), **schedule(steps), **options, 'randomness.seed': SEED}
    return Run(
        dict(data='photographs', variant=variant, latent=latent, seed=SEED),
        lambda work_dir: train_and_test(config, options, steps, work_dir),
    )


def train_and_test(config: str, options: dict, steps: int, work_dir: Path) -> Iterator[Step]:
    """Train, and measure held-out images and training images."""

    def scores(out: Path) -> list[dict]:
        found = format_scores(psnr=read_log(out, 'image/psnr')['image/psnr'])
        return [dict(found, steps=steps, images='val')]

    yield train(config, options, work_dir / 'training', scores=scores)
    yield test_on_training_images(config, options, steps, work_dir)


def test_on_training_images(config: str, options: dict, steps: int, work_dir: Path) -> Step:
    """Measure the training images as the held-out ones: whole, without crops."""
    out = work_dir / 'train.json'
    settings = {**options, 'test_dataloader.dataset.dataset.data_prefix': 'train'}
    command = ['tools/test.py', config, str(work_dir / 'training'), '--out', str(out)]
    command += ['--cfg-options', *(f'{k}={v}'.replace(' ', '') for k, v in settings.items())]

    def scores(out: Path) -> list[dict]:
        psnr = json.loads(out.read_text())['image/psnr']
        return [dict(format_scores(psnr=psnr), steps=steps, images='train')]

    return Step(command, out, scores)
