"""The study of reconstruction: its settings, scores and tables."""

import json

import pytest

from finola_mm.apis import load_config
from tests.messages import shows
from tests.studies.commands import arguments


def test_every_variant_has_valid_settings_and_a_table(studies):
    for variant, options in studies.reconstruction.VARIANTS.items():
        load_config(studies.reconstruction.CONFIG, options=dict(options))
        assert variant in sum(studies.reconstruction.TABLES.values(), [])


def test_options_of_the_command_line_reach_the_config(studies, tmp_path):
    run = next(r for r in studies.reconstruction.runs() if 'corner' in r.keys['variant'])
    (step,) = run.steps(tmp_path)
    cfg = load_config(studies.reconstruction.CONFIG, options=arguments(step).cfg_options)
    assert tuple(cfg.model.neck.origin) == (0, 0)
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[1].end == run.keys['steps']
    assert cfg.train_dataloader.dataset.dataset.data_root == 'data/shapes/imagenet'
    assert cfg.randomness.seed == run.keys['seed']


def test_the_scores_are_those_of_the_last_validation(studies, tmp_path):
    for name, value in (('a', 1.0), ('b', 20.125)):
        log = tmp_path / name / 'vis_data' / 'scalars.json'
        log.parent.mkdir(parents=True)
        line = {'image/psnr': value, 'image/ssim': 0.5, 'image/psnr/cat': value, 'step': 9}
        log.write_text(json.dumps({'loss': 1}) + '\n' + json.dumps(line) + '\n')
    assert studies.reconstruction.trained_scores(tmp_path) == [
        dict(psnr='20.1250', ssim='0.5000', folders='cat=20.12')
    ]
    with pytest.raises(ValueError, match=shows(tmp_path, 'score')):
        studies.study.read_log(tmp_path, 'score')


def test_a_cell_shows_finished_seeds(studies):
    cell = studies.reconstruction_tables.cell
    assert cell({}, 'C = 64', 'shapes', 250) == 'not yet run'
    rows = {('shapes', 'C = 64', 1, 250): dict(psnr='20', ssim='0.5', note='')}
    assert cell(rows, 'C = 64', 'shapes', 250) == '20.00 (one seed of 2) / 0.500'
    rows['shapes', 'C = 64', 2, 250] = dict(psnr='21', ssim='0.7', note='')
    assert cell(rows, 'C = 64', 'shapes', 250) == '20.50 (20.00, 21.00) / 0.600'
    rows['shapes', 'C = 64', 2, 250] = dict(psnr='', ssim='', note='loss not finite')
    assert cell(rows, 'C = 64', 'shapes', 250) == 'loss not finite'
