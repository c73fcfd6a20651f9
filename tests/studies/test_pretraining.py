"""The study of pre-training: its commands, the scores read from their files, tables and curve."""

import json
from pathlib import Path

from PIL import Image

from finola_mm.apis import load_config
from tests.studies.commands import arguments


def test_every_command_of_a_pretraining_is_one_of_the_tools(studies, tmp_path):
    """Scripts, configs and settings exist, the schedules end together, and every probe starts from
    the encoder or from the probe before it."""
    for run in studies.pretraining.runs():
        is_long = run.keys['seed'] == studies.pretraining.LONG_SEED
        work_dirs = []
        for step in run.steps(tmp_path):
            script, config, *rest = step.command
            assert Path(script).is_file() and Path(config).is_file()
            if script != 'tools/train.py':
                assert rest[0].startswith(f'{work_dirs[0]}/iter_')
                assert is_long or rest[0] == f'{work_dirs[0]}/iter_{run.keys["steps"]}.pth'
                continue
            given = arguments(step)
            work_dirs.append(given.work_dir)
            cfg = load_config(config, options=given.cfg_options)
            steps = cfg.train_cfg.max_iters
            ends = [steps if k == 'end' else steps - 30 for k in ('end', 'T_max')]
            assert [cfg.param_scheduler[1].end, cfg.param_scheduler[1].T_max] == ends
            assert len(cfg.param_scheduler) == 2
            assert steps % cfg.default_hooks.checkpoint.interval == 0
            if len(work_dirs) > 1:
                assert (given.pretrained or cfg.load_from) in work_dirs[:-1]
                assert not (given.pretrained and cfg.load_from)
        expected = list(studies.pretraining.PROTOCOLS)[2:] if is_long else []
        assert [Path(path).name for path in work_dirs[1:]] == expected


def test_few_labels_are_a_tenth_of_the_list(studies, tmp_path):
    """The decoder starts at random: the tran-1 probe has seen all labels."""
    command = next(studies.pretraining.runs()).steps(tmp_path)[-1].command
    assert 'load_from=None' in command and '--pretrained' in command
    listed = f'train_dataloader.dataset.dataset.ann_file={studies.pretraining.LOW_SHOT}'
    assert listed in command


def test_the_rows_of_a_pretraining_are_read_from_its_files(studies, tmp_path):
    for name, top1 in (('lin', 1.0), ('tran1', 2.0), ('tran1_ft', 3.0), ('tran1_ft_10pct', 4.0)):
        log = tmp_path / name / 'now/vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        log.write_text(json.dumps({'accuracy/top1': top1, 'step': 9}) + '\n')
    run = next(r for r in studies.pretraining.runs() if r.keys['method'] == 'FINOLA')
    steps = studies.pretraining.eval_steps('FINOLA', run.keys['seed'])
    assert len(steps) == 8 and steps[-1] == run.keys['steps']
    for after in steps:
        found = {f'iter_{after}.pth': {'k = 20': [5, 50], 'linear': [6.125, 60]}}
        (tmp_path / f'features_{after}.json').write_text(json.dumps(found))
    rows = [row for step in run.steps(tmp_path) for row in step.scores(step.out)]
    assert {row['protocol']: row['top1'] for row in rows} == {
        'kNN': '5.00',
        'linear': '6.12',
        'lin': '1.00',
        'tran1': '2.00',
        'tran1_ft': '3.00',
        'tran1_ft_10pct': '4.00',
    }
    assert {row['after'] for row in rows} == set(steps)


def test_a_random_encoder_is_also_evaluated_before_its_batch_norm_statistics_change(
    studies, tmp_path
):
    run = next(r for r in studies.pretraining.runs() if r.keys['method'] == 'random')
    step = run.steps(tmp_path)[1]
    assert step.command[-3:] == ['--random', '--seed', str(run.keys['seed'])]
    found = {
        'random': {'k = 20': [1, 50], 'linear': [2, 60]},
        'iter_50.pth': {'k = 20': [3, 50], 'linear': [4, 60]},
    }
    (tmp_path / 'features_50.json').write_text(json.dumps(found))
    rows = [dict(row, seed='0', steps='50', note='') for row in step.scores(step.out)]
    text = '\n'.join(studies.pretraining_tables.tables(rows))
    assert '| random, as drawn | 0 | 1.0 | 2.0 | – | – | – | – |' in text
    assert '| random | 50 | 3.0 | 4.0 | not yet run |' in text


def test_the_curve_is_drawn_from_the_long_seed(studies, tmp_path, monkeypatch):
    picture = tmp_path / 'curve.png'
    monkeypatch.setattr(studies.pretraining_tables, 'PICTURE', picture)
    row = dict(
        method='FINOLA', seed='1', steps='150', protocol='kNN', after='150', top1='9.5', note=''
    )
    studies.pretraining_tables.draw([row])
    assert not picture.exists()
    long = [{**row, 'seed': '0', 'steps': '1200', 'after': str(k)} for k in (150, 300)]
    studies.pretraining_tables.draw([row, *long])
    with Image.open(picture) as image:
        assert image.width > 500
    failed = {**long[0], 'method': 'MoCo v2', 'after': '', 'top1': '', 'note': 'loss not finite'}
    text = '\n'.join(studies.pretraining_tables.tables([row, *long, failed]))
    assert '| FINOLA | 9.5 | 9.5 | not yet run |' in text
    assert '| FINOLA | 150 | 9.5 (one seed of 2) | not yet run |' in text
    assert text.count('| MoCo v2 | loss not finite |') == 2
    assert '| MoCo v2 | 1600 | loss not finite |' in text
