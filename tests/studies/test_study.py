"""The runner of the studies with a small study of its own, and the committed list and tables."""

import argparse
import importlib
import json
import signal
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mmengine.config import DictAction
from PIL import Image

from finola_mm.engine import load_config

SCRIPT = """
import json, pathlib, sys
work_dir, score = pathlib.Path(sys.argv[1]), sys.argv[2]
log = work_dir / 'now/vis_data/scalars.json'
log.parent.mkdir(parents=True, exist_ok=True)
if score == 'nan':
    (work_dir / 'nonfinite_loss_iter_3_rank_0.json').write_text('{}')
if not score.replace('.', '').isdigit():
    sys.exit(1)
lines = [dict(loss=1.0, step=1), dict(score=float(score), step=2)]
log.write_text('\\n'.join(map(json.dumps, lines)))
"""


@pytest.fixture
def studies(project_root, monkeypatch):
    """The folder's modules as its scripts see each other."""
    monkeypatch.syspath_prepend(str(project_root / 'studies'))
    names = ('study', 'reconstruction', 'reconstruction_tables', 'pretraining',
             'pretraining_tables', 'detection', 'detection_tables', 'report')
    yield types.SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    for name in names:
        sys.modules.pop(name)


@pytest.fixture
def toy(studies, tmp_path, monkeypatch):
    """A study of three runs whose command is SCRIPT; the third's result can be changed."""
    script = tmp_path / 'script.py'
    script.write_text(SCRIPT)
    toy = types.ModuleType('toy')
    toy.CSV, toy.COLUMNS, toy.PREPARE = str(tmp_path / 'toy.csv'), ('variant', 'psnr'), []
    toy.SCORE = 'psnr'
    toy.results = {'one': '1.5', 'two': '2.5', 'three': '3.5'}
    toy.started = []

    def steps(variant, work_dir):
        toy.started.append(variant)
        out = work_dir / 'out'
        command = [str(script), str(out), toy.results[variant]]
        return [studies.study.Step(command, out, toy.scores)]

    def scores(out):
        return [studies.study.numbered(psnr=studies.study.read_log(out, 'score')['score'])]

    toy.scores = scores
    toy.runs = lambda: [
        studies.study.Run(dict(variant=v), lambda w, v=v: steps(v, w)) for v in toy.results
    ]
    monkeypatch.setitem(sys.modules, 'toy', toy)
    monkeypatch.setattr(studies.study, 'STUDIES', ('toy',))
    monkeypatch.setattr(studies.study, 'place', lambda: dict(commit='abc', machine='a CPU'))
    monkeypatch.setattr(studies.study.subprocess, 'check_call', lambda command: None)  # the report
    monkeypatch.setattr(studies.study, 'Path', lambda *parts: tmp_path.joinpath(*parts))

    def run(*arguments):
        toy.started.clear()
        monkeypatch.setattr(sys, 'argv', ['study', 'toy', *arguments])
        studies.study.main()
        return toy.started[:]

    toy.run = run
    toy.rows = lambda: studies.study.read_rows(toy)
    return toy


def test_runs_append_their_rows_and_are_not_run_again(toy):
    assert toy.run() == ['one', 'two', 'three']
    assert [(r['variant'], r['psnr']) for r in toy.rows()] == [
        ('one', '1.5000'), ('two', '2.5000'), ('three', '3.5000')]
    assert all(r['date'] and r['machine'] and r['minutes'] and not r['note'] for r in toy.rows())
    assert toy.run() == []
    assert len(toy.rows()) == 3


def test_a_failed_run_keeps_what_is_there_and_is_tried_again(toy):
    toy.results['two'] = 'crash'
    with pytest.raises(SystemExit, match='crash ended with 1; see .*output.log'):
        toy.run()
    assert [r['variant'] for r in toy.rows()] == ['one']
    toy.results['two'] = '9.0'
    assert toy.run() == ['two', 'three']
    assert [r['psnr'] for r in toy.rows()] == ['1.5000', '9.0000', '3.5000']


def test_a_loss_that_is_not_finite_is_a_result(toy):
    toy.results['two'] = 'nan'
    toy.run()
    assert [(r['psnr'], r['note']) for r in toy.rows()] == [
        ('1.5000', ''), ('', 'loss not finite'), ('3.5000', '')]
    assert toy.run() == []


def test_a_run_whose_rows_are_deleted_starts_anew(toy, tmp_path):
    """What its work directory held does not become the new result."""
    toy.run()
    left_over = next(tmp_path.glob('**/one')) / 'left_over'
    left_over.touch()
    lines = (tmp_path / 'toy.csv').read_text().splitlines(keepends=True)
    (tmp_path / 'toy.csv').write_text(''.join([lines[0], *lines[2:]]))
    assert toy.run() == ['one']
    assert not left_over.exists() and len(toy.rows()) == 3


def test_a_step_without_its_score_is_run_anew(toy, tmp_path):
    """As when it was killed between its last checkpoint and its validation."""
    scores, out = toy.scores, tmp_path / 'out'

    def none(out):
        raise ValueError('no score')
    toy.scores = none
    with pytest.raises(SystemExit, match='no score'):
        toy.run('--only', 'one')
    assert not list(tmp_path.glob('**/one/out'))
    toy.scores = scores
    assert toy.run('--only', 'one') == ['one'] and len(toy.rows()) == 1
    assert not out.exists()


@pytest.fixture
def three_steps(toy, studies, tmp_path):
    """One run whose steps write a, b and c into a file; b fails until ``mended`` is there."""
    script = tmp_path / 'note.py'
    script.write_text('import pathlib, sys\n'
                      'with open(sys.argv[1], "a") as f: f.write(sys.argv[2])\n'
                      'sys.exit(sys.argv[2] == "b" and not pathlib.Path(sys.argv[3]).exists())')
    toy.noted, toy.mended = tmp_path / 'noted', tmp_path / 'mended'

    def step(name, out):
        command = [str(script), str(toy.noted), name, str(toy.mended)]
        return studies.study.Step(command, out, lambda out: [dict(psnr=name)])
    toy.runs = lambda: [studies.study.Run(
        dict(variant='four'), lambda work_dir: [step(x, work_dir / x) for x in 'abc'])]
    return toy


def test_a_step_that_has_ended_is_not_run_again(three_steps):
    with pytest.raises(SystemExit, match='note.py .* b .* ended with 1'):
        three_steps.run()
    assert three_steps.rows() == []
    three_steps.mended.touch()
    three_steps.run()
    assert three_steps.noted.read_text() == 'abbc'
    assert [row['psnr'] for row in three_steps.rows()] == ['a', 'b', 'c']


def test_a_loss_that_is_not_finite_keeps_what_came_before(three_steps, tmp_path):
    with pytest.raises(SystemExit):
        three_steps.run()
    (out,) = (path.parent / 'b' for path in tmp_path.glob('**/step_1.json'))
    out.mkdir()
    (out / 'nonfinite_loss_iter_3_rank_0.json').touch()
    three_steps.run()
    assert [(row['psnr'], row['note']) for row in three_steps.rows()] == [
        ('a', ''), ('', 'loss not finite')]
    assert three_steps.run() == [] and three_steps.noted.read_text() == 'abb'


def test_the_minutes_of_interrupted_tries_count(studies, tmp_path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), studies.study.timed(tmp_path / 'seconds'):
            time.sleep(0.02)
            raise KeyboardInterrupt
    assert float((tmp_path / 'seconds').read_text()) >= 0.04


def test_ctrl_c_waits_for_the_command_to_save(studies, tmp_path):
    """The command hears of it, takes its time, and has saved when the study ends."""
    script = tmp_path / 'saves.py'
    script.write_text("""
import pathlib, signal, sys, time
def save(*_):
    time.sleep(0.6)
    pathlib.Path(sys.argv[2]).touch()
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
pathlib.Path(sys.argv[1]).touch()
time.sleep(60)
""")
    started, saved = tmp_path / 'started', tmp_path / 'saved'

    def interrupt():
        while not started.exists():
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    with ThreadPoolExecutor() as pool, open(tmp_path / 'log', 'w') as log:
        pool.submit(interrupt)
        with pytest.raises(SystemExit, match='interrupted; the same command goes on'):
            studies.study.call([sys.executable, str(script), str(started), str(saved)], log)
    assert saved.exists()


def test_two_processes_that_begin_the_file_write_one_head(toy, studies):
    row = dict(run='one', variant='one', psnr='1')
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: studies.study.append_rows(toy, [row]), range(50)))
    assert [r['psnr'] for r in toy.rows()] == ['1'] * 50


def test_two_processes_share_the_list(toy):
    assert toy.run('--part', '2/2') == ['two']
    assert toy.run('--part', '1/2') == ['one', 'three']
    assert len(toy.rows()) == 3


def test_list_only_and_minutes(toy, capsys):
    assert toy.run('--list') == []
    assert capsys.readouterr().out.count('not yet run') == 3
    assert toy.run('--only', 'tw') == ['two']
    toy.run('--list')
    assert 'done         two' in capsys.readouterr().out
    assert toy.run('--minutes', '0') == []
    assert 'the same command goes on' in capsys.readouterr().out


@pytest.mark.parametrize('part', ['0/2', '3/2', 'x', '1', '1/0'])
def test_a_part_that_is_none_is_refused(toy, part, capsys):
    with pytest.raises(SystemExit):
        toy.run('--part', part)
    assert f'--part {part}' in capsys.readouterr().err


@pytest.mark.parametrize('cut', [-1, -5, -30])
def test_a_torn_line_and_other_columns_are_said(toy, tmp_path, cut):
    toy.run()
    whole = (tmp_path / 'toy.csv').read_text()
    (tmp_path / 'toy.csv').write_text(whole[:cut])
    with pytest.raises(SystemExit, match='line 4 is not whole'):
        toy.run()
    (tmp_path / 'toy.csv').write_text(whole.replace('psnr', 'ssim'))
    with pytest.raises(SystemExit, match='has the columns'):
        toy.run()


def test_the_place_is_this_code_and_this_machine(studies):
    assert set(studies.study.place()) == {'commit', 'machine'}
    assert all(studies.study.place().values())


# ------------------------------------------------------------------------- the committed study
@pytest.mark.parametrize('name', ['reconstruction', 'pretraining', 'detection'])
def test_every_run_has_its_own_name(studies, name):
    runs = list(getattr(studies, name).runs())
    assert len({run.name for run in runs}) == len(runs)


def test_every_variant_has_settings_that_exist_and_a_table(studies):
    for variant, options in studies.reconstruction.VARIANTS.items():
        load_config(studies.reconstruction.CONFIG, options=dict(options))
        assert variant in sum(studies.reconstruction.TABLES.values(), [])


def parsed(switch):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args(switch).cfg_options


def test_options_reach_the_config_as_the_command_line_gives_them(studies, tmp_path):
    run = next(r for r in studies.reconstruction.runs() if 'corner' in r.keys['variant'])
    (step,) = run.steps(tmp_path)
    options = parsed(step.command[step.command.index('--cfg-options') :])
    cfg = load_config(studies.reconstruction.CONFIG, options=options)
    assert tuple(cfg.model.neck.origin) == (0, 0)
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[1].end == run.keys['steps']
    assert cfg.train_dataloader.dataset.dataset.data_root == 'data/shapes/imagenet'
    assert cfg.randomness.seed == run.keys['seed']


def test_every_command_of_a_pretraining_is_one_of_the_tools(studies, tmp_path):
    """Its script and config exist, its settings change what is there, the schedules end together;
    every probe starts from the encoder or from the probe before it."""
    for run in studies.pretraining.runs():
        long = run.keys['seed'] == studies.pretraining.LONG_SEED
        made = []
        for script, config, *rest in (step.command for step in run.steps(tmp_path)):
            assert Path(script).is_file() and Path(config).is_file()
            if script != 'tools/train.py':
                assert rest[0].startswith(f'{made[0]}/iter_')
                assert long or rest[0] == f'{made[0]}/iter_{run.keys["steps"]}.pth'
                continue
            made.append(rest[rest.index('--work-dir') + 1])
            options = parsed(rest[rest.index('--cfg-options'):])
            cfg = load_config(config, options=options)
            steps = cfg.train_cfg.max_iters
            ends = [steps if k == 'end' else steps - 30 for k in ('end', 'T_max')]
            assert [cfg.param_scheduler[1].end, cfg.param_scheduler[1].T_max] == ends
            assert len(cfg.param_scheduler) == 2
            assert steps % cfg.default_hooks.checkpoint.interval == 0
            if len(made) > 1:
                start = rest[rest.index('--pretrained') + 1] if '--pretrained' in rest else None
                assert (start or cfg.load_from) in made[:-1]
                assert not (start and cfg.get('load_from'))
        wanted = list(studies.pretraining.PROTOCOLS)[2:] if long else []
        assert [Path(path).name for path in made[1:]] == wanted


def test_few_labels_are_a_tenth_of_the_list(studies, tmp_path):
    """Nothing that saw all labels comes before: the decoder starts anew."""
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
    every = studies.pretraining.points('FINOLA', run.keys['seed'])
    assert len(every) == 8 and every[-1] == run.keys['steps']
    for after in every:
        found = {f'iter_{after}.pth': {'k = 20': [5, 50], 'linear': [6.125, 60]}}
        (tmp_path / f'features_{after}.json').write_text(json.dumps(found))
    rows = [row for step in run.steps(tmp_path) for row in step.scores(step.out)]
    assert {row['protocol']: row['top1'] for row in rows} == {
        'kNN': '5.00', 'linear': '6.12', 'lin': '1.00', 'tran1': '2.00', 'tran1_ft': '3.00',
        'tran1_ft_10pct': '4.00'}
    assert {row['after'] for row in rows} == set(every)


def test_a_random_encoder_is_judged_as_drawn_too(studies, tmp_path):
    run = next(r for r in studies.pretraining.runs() if r.keys['method'] == 'random')
    step = run.steps(tmp_path)[1]
    assert step.command[-3:] == ['--random', '--seed', str(run.keys['seed'])]
    found = {'random': {'k = 20': [1, 50], 'linear': [2, 60]},
             'iter_50.pth': {'k = 20': [3, 50], 'linear': [4, 60]}}
    (tmp_path / 'features_50.json').write_text(json.dumps(found))
    rows = [dict(row, seed='0', steps='50', note='') for row in step.scores(step.out)]
    text = '\n'.join(studies.pretraining_tables.tables(rows))
    assert '| random, as drawn | 0 | 1.0 | 2.0 | – | – | – | – |' in text
    assert '| random | 50 | 3.0 | 4.0 | not yet run |' in text


def test_the_curve_is_drawn_from_the_long_seed(studies, tmp_path, monkeypatch):
    picture = tmp_path / 'curve.png'
    monkeypatch.setattr(studies.pretraining_tables, 'PICTURE', picture)
    row = dict(method='FINOLA', seed='1', steps='150', protocol='kNN', after='150', top1='9.5',
               note='')
    studies.pretraining_tables.draw([row])
    assert not picture.exists()
    long = [{**row, 'seed': '0', 'steps': '1200', 'after': str(k)} for k in (150, 300)]
    studies.pretraining_tables.draw([row, *long])
    with Image.open(picture) as image:
        assert image.width > 500
    broken = {**long[0], 'method': 'MoCo v2', 'after': '', 'top1': '', 'note': 'loss not finite'}
    text = '\n'.join(studies.pretraining_tables.tables([row, *long, broken]))
    assert '| FINOLA | 9.5 | 9.5 | not yet run |' in text
    assert '| FINOLA | 150 | 9.5 (one seed of 2) | not yet run |' in text
    assert text.count('| MoCo v2 | loss not finite |') == 2
    assert '| MoCo v2 | 1600 | loss not finite |' in text


def test_the_scores_are_those_of_the_last_validation(studies, tmp_path):
    for name, value in (('a', 1.0), ('b', 20.125)):
        log = tmp_path / name / 'vis_data' / 'scalars.json'
        log.parent.mkdir(parents=True)
        line = {'image/psnr': value, 'image/ssim': 0.5, 'image/psnr/cat': value, 'step': 9}
        log.write_text(json.dumps({'loss': 1}) + '\n' + json.dumps(line) + '\n')
    assert studies.reconstruction.trained_scores(tmp_path) == [
        dict(psnr='20.1250', ssim='0.5000', folders='cat=20.12')]
    with pytest.raises(ValueError, match='hold no score'):
        studies.study.read_log(tmp_path, 'score')


def test_a_cell_says_what_has_run(studies):
    cell = studies.reconstruction_tables.cell
    assert cell({}, 'C = 64', 'shapes', 250) == 'not yet run'
    rows = {('shapes', 'C = 64', 1, 250): dict(psnr='20', ssim='0.5', note='')}
    assert cell(rows, 'C = 64', 'shapes', 250) == '20.00 (one seed of 2) / 0.500'
    rows['shapes', 'C = 64', 2, 250] = dict(psnr='21', ssim='0.7', note='')
    assert cell(rows, 'C = 64', 'shapes', 250) == '20.50 (20.00, 21.00) / 0.600'
    rows['shapes', 'C = 64', 2, 250] = dict(psnr='', ssim='', note='loss not finite')
    assert cell(rows, 'C = 64', 'shapes', 250) == 'loss not finite'


def test_the_tables_of_the_results_are_up_to_date(studies, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['report', '--check'])
    studies.report.main()


def test_only_the_text_between_the_marks_is_replaced(studies):
    begin, end = (mark.format('x') for mark in studies.report.MARKS)
    text = f'before\n{begin}old\n{end}after\n'
    assert studies.report.between_marks(text, 'x', 'new') == f'before\n{begin}new\n{end}after\n'
    with pytest.raises(ValueError, match='once each'):
        studies.report.between_marks('no marks', 'x', 'new')
