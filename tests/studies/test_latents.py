"""The study of latent vectors: its commands, its table and the overfitting of one batch."""

import sys

import torch

from finola_mm.apis import load_config
from tests.studies.commands import arguments


def test_options_reach_the_configs(studies, tmp_path):
    for run in studies.latents.runs():
        latent, steps = run.keys['latent'], [*run.steps(tmp_path)]
        if run.keys['data'] == 'photographs':
            train = arguments(steps[0])
            cfg = load_config(train.config, options=train.cfg_options)
            assert cfg.model.neck.channels == cfg.model.upsampler.in_channels == latent
            assert cfg.train_cfg.max_iters == studies.latents.VARIANTS[run.keys['variant']][2]
            split = cfg.train_dataloader.dataset.dataset.data_prefix
            assert f'test_dataloader.dataset.dataset.data_prefix={split}' in steps[1].command


def test_one_changed_setting_changes_the_model(studies, tmp_path):
    seen = {}
    for run in studies.latents.runs():
        if run.keys['data'] == 'photographs' and run.keys['latent'] == 64:
            train = arguments(next(run.steps(tmp_path)))
            cfg = load_config(train.config, options=train.cfg_options)
            seen[run.keys['variant']] = (cfg.model, cfg.optim_wrapper, cfg.train_cfg)
    assert all(seen[a] != seen[b] for a in seen for b in seen if a != b)


def test_the_length_on_a_gpu_follows_from_a_measured_step(studies, tmp_path):
    module = studies.latents_gpu
    assert [run.keys['latent'] for run in module.runs()] == [64, 256]
    steps = next(module.runs()).steps(tmp_path)
    trial = arguments(next(steps))
    scalars = tmp_path / 'trial/20261130_000000/vis_data/scalars.json'
    scalars.parent.mkdir(parents=True)
    scalars.write_text('{"time": 0.04, "step": 100}\n')
    training, test = steps
    training = arguments(training)
    cfg = load_config(training.config, options=training.cfg_options)
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[1].end == module.SECONDS * 25
    assert cfg.train_dataloader.batch_size == module.BATCH_SIZE
    assert trial.config == training.config == studies.latents.CONFIG in test.command
    assert cfg.train_dataloader.dataset.dataset.data_root == 'data/photos-tiny/photos'


def test_the_batch_is_overfitted_with_valid_arguments(studies, tmp_path, monkeypatch):
    for run in studies.latents.runs():
        if run.keys['data'] == '16 photographs':
            (step,) = run.steps(tmp_path)
            monkeypatch.setattr(sys, 'argv', step.command)
            args = studies.overfit.parse_args()
            assert args.channels == run.keys['latent'] and args.out == str(step.out)
            assert args.steps == studies.latents.BATCH_STEPS in studies.overfit.REPORTED


def test_free_vectors_with_any_maps_fit_any_images(studies, monkeypatch):
    """A position has 64 channels for its 48 values: an exact solution exists."""
    options = '--channels 64 --latent free --map linear --upsampler linear --steps 200 --lr 1e-2'
    monkeypatch.setattr(sys, 'argv', ['overfit.py', 'images', *options.split()])
    args = studies.overfit.parse_args()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = studies.overfit.overfit(args, images)
    assert list(found) == [50, 100, 200] and found[200] > max(found[100], 40)


def test_the_matrices_have_a_learning_rate_of_their_own(studies, monkeypatch):
    options = '--map waves --lr 1e-3 --matrices-lr 0.1 --channels 64'
    monkeypatch.setattr(sys, 'argv', ['overfit.py', 'images', *options.split()])
    args = studies.overfit.parse_args()
    model = studies.overfit.build_finola(args)
    optimizer = torch.optim.AdamW(studies.overfit.parameter_groups(model, args), args.lr)
    rates = {id(p): group['lr'] for group in optimizer.param_groups for p in group['params']}
    matrices = {id(matrix) for matrix in model.neck.finola.parameters()}
    assert len(matrices) == 4
    for parameter in model.parameters():
        assert rates[id(parameter)] == (1e-4 if id(parameter) in matrices else 1e-3)


def test_the_table_shows_finished_runs(studies):
    common = dict(seed='0', note='')
    gpu = dict(
        common, variant=studies.latents_gpu.VARIANT, latent='256', steps='7', machine='a GPU'
    )
    rows = [
        dict(common, variant='FINOLA', latent='64', steps='400', images='train', psnr='20.125'),
        dict(common, variant='lr 1e-3', latent='64', steps='600', images='val', psnr='19.5'),
        dict(common, variant='lr 4e-3', latent='256', steps='', images='', psnr='', note='bad'),
        dict(gpu, images='val', psnr='20.5'),
        dict(gpu, images='train', psnr='21'),
    ]
    text = '\n'.join(studies.latents_tables.tables(rows))
    assert '| FINOLA | 64 | not yet run | not yet run | not yet run | 20.12 |' in text
    assert '| lr 1e-3 | 600 | 19.50 | not yet run | not yet run | not yet run |' in text
    assert '| lr 4e-3 | 600 | not yet run | bad | not yet run | bad |' in text
    assert '| 64 |  | not yet run | not yet run |  |\n| 256 | 7 | 20.50 | 21.00 | a GPU |' in text
