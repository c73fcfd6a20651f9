"""The runner of the studies, tested with a small study."""

import re
import signal
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.messages import shows

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
def toy(studies, tmp_path, monkeypatch):
    """A study of three runs whose command is SCRIPT; ``results`` can be changed."""
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
        return [studies.study.format_scores(psnr=studies.study.read_log(out, 'score')['score'])]

    toy.scores = scores
    toy.runs = lambda: [
        studies.study.Run(dict(variant=v), lambda w, v=v: steps(v, w)) for v in toy.results
    ]
    monkeypatch.setitem(sys.modules, 'toy', toy)
    monkeypatch.setattr(studies.study, 'STUDIES', ('toy',))
    monkeypatch.setattr(
        studies.study, 'environment_info', lambda: dict(commit='abc', machine='a CPU')
    )
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


def test_runs_append_their_rows_and_are_not_repeated(toy):
    assert toy.run() == ['one', 'two', 'three']
    assert [(r['variant'], r['psnr']) for r in toy.rows()] == [
        ('one', '1.5000'),
        ('two', '2.5000'),
        ('three', '3.5000'),
    ]
    assert all(r['date'] and r['machine'] and r['minutes'] and not r['note'] for r in toy.rows())
    assert toy.run() == []
    assert len(toy.rows()) == 3


def test_a_failed_run_keeps_earlier_rows_and_is_repeated(toy):
    toy.results['two'] = 'crash'
    with pytest.raises(SystemExit, match=r'(?s)(?=.*crash)(?=.*\b1\b)(?=.*output\.log)'):
        toy.run()
    assert [r['variant'] for r in toy.rows()] == ['one']
    toy.results['two'] = '9.0'
    assert toy.run() == ['two', 'three']
    assert [r['psnr'] for r in toy.rows()] == ['1.5000', '9.0000', '3.5000']


def test_a_loss_that_is_not_finite_is_a_result(toy):
    toy.results['two'] = 'nan'
    toy.run()
    assert [(r['psnr'], r['note']) for r in toy.rows()] == [
        ('1.5000', ''),
        ('', 'loss not finite'),
        ('3.5000', ''),
    ]
    assert toy.run() == []


def test_a_run_whose_rows_are_deleted_starts_in_an_empty_work_dir(toy, tmp_path):
    toy.run()
    left_over = next(tmp_path.glob('**/one')) / 'left_over'
    left_over.touch()
    lines = (tmp_path / 'toy.csv').read_text().splitlines(keepends=True)
    (tmp_path / 'toy.csv').write_text(''.join([lines[0], *lines[2:]]))
    assert toy.run() == ['one']
    assert not left_over.exists() and len(toy.rows()) == 3


def test_a_step_without_its_score_is_repeated(toy, tmp_path):
    """For example, one that was killed between its last checkpoint and its validation."""
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
    """One run whose steps write a, b and c into a file; b fails until ``fixed`` exists."""
    script = tmp_path / 'note.py'
    script.write_text(
        'import pathlib, sys\n'
        'with open(sys.argv[1], "a") as f: f.write(sys.argv[2])\n'
        'sys.exit(sys.argv[2] == "b" and not pathlib.Path(sys.argv[3]).exists())'
    )
    toy.noted, toy.fixed = tmp_path / 'noted', tmp_path / 'fixed'

    def step(name, out):
        command = [str(script), str(toy.noted), name, str(toy.fixed)]
        return studies.study.Step(command, out, lambda out: [dict(psnr=name)])

    toy.runs = lambda: [
        studies.study.Run(
            dict(variant='four'), lambda work_dir: [step(x, work_dir / x) for x in 'abc']
        )
    ]
    return toy


def test_a_finished_step_is_not_repeated(three_steps):
    with pytest.raises(SystemExit, match=r'(?s)(?=.*note\.py \S+ b )(?=.*\b1\b)'):
        three_steps.run()
    assert three_steps.rows() == []
    three_steps.fixed.touch()
    three_steps.run()
    assert three_steps.noted.read_text() == 'abbc'
    assert [row['psnr'] for row in three_steps.rows()] == ['a', 'b', 'c']


def test_a_loss_that_is_not_finite_keeps_the_rows_of_earlier_steps(three_steps, tmp_path):
    with pytest.raises(SystemExit):
        three_steps.run()
    (out,) = (path.parent / 'b' for path in tmp_path.glob('**/step_1.json'))
    out.mkdir()
    (out / 'nonfinite_loss_iter_3_rank_0.json').touch()
    three_steps.run()
    assert [(row['psnr'], row['note']) for row in three_steps.rows()] == [
        ('a', ''),
        ('', 'loss not finite'),
    ]
    assert three_steps.run() == [] and three_steps.noted.read_text() == 'abb'


def test_the_minutes_of_interrupted_attempts_count(studies, tmp_path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), studies.study.timed(tmp_path / 'seconds'):
            time.sleep(0.02)
            raise KeyboardInterrupt
    assert float((tmp_path / 'seconds').read_text()) >= 0.04


def test_ctrl_c_waits_for_the_command_to_save(studies, tmp_path):
    """The command receives SIGTERM and has saved before the study ends."""
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
        with pytest.raises(SystemExit, match='study: '):
            studies.study.call([sys.executable, str(script), str(started), str(saved)], log)
    assert saved.exists()


def test_two_processes_that_create_the_csv_write_one_header(toy, studies):
    row = dict(run='one', variant='one', psnr='1')
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: studies.study.append_rows(toy, [row]), range(50)))
    assert [r['psnr'] for r in toy.rows()] == ['1'] * 50


def test_two_processes_share_the_list(toy):
    assert toy.run('--part', '2/2') == ['two']
    assert toy.run('--part', '1/2') == ['one', 'three']
    assert len(toy.rows()) == 3


def states(listed):
    """Return the state of each run in the output of --list."""
    lines = (line.rsplit(maxsplit=1) for line in listed.splitlines())
    return {name: state for state, name in lines}


def test_list_only_and_minutes(toy, capsys):
    assert toy.run('--list') == []
    before = states(capsys.readouterr().out)
    assert {*before} == {'one', 'two', 'three'} and len({*before.values()}) == 1
    assert toy.run('--only', 'tw') == ['two']
    capsys.readouterr()
    toy.run('--list')
    after = states(capsys.readouterr().out)
    assert [name for name in before if after[name] != before[name]] == ['two']
    assert toy.run('--minutes', '0') == []
    assert re.search(r'\b0\b', capsys.readouterr().out)


def test_gpus_are_hidden_except_from_the_studies_for_them(toy, studies, monkeypatch):
    environment = studies.study.ENVIRONMENT
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3')
    toy.run('--only', 'one')
    assert environment['CUDA_VISIBLE_DEVICES'] == ''
    monkeypatch.setattr(studies.study, 'GPU_STUDIES', ('toy',))
    toy.run('--only', 'two')
    assert environment['CUDA_VISIBLE_DEVICES'] == '3'


@pytest.mark.parametrize('part', ['0/2', '3/2', 'x', '1', '1/0'])
def test_an_invalid_part_is_refused(toy, part, capsys):
    with pytest.raises(SystemExit):
        toy.run('--part', part)
    assert re.search(shows('--part', part), capsys.readouterr().err.splitlines()[-1])


@pytest.mark.parametrize('cut', [-1, -5, -30])
def test_a_truncated_line_and_other_columns_are_reported(toy, tmp_path, cut):
    toy.run()
    whole = (tmp_path / 'toy.csv').read_text()
    (tmp_path / 'toy.csv').write_text(whole[:cut])
    with pytest.raises(SystemExit, match=r'(?=.*\b4\b).*toy\.csv'):
        toy.run()
    (tmp_path / 'toy.csv').write_text(whole.replace('psnr', 'ssim'))
    with pytest.raises(SystemExit, match=shows('toy.csv', 'psnr', 'ssim')):
        toy.run()


def test_the_environment_is_this_code_and_this_machine(studies):
    assert set(studies.study.environment_info()) == {'commit', 'machine'}
    assert all(studies.study.environment_info().values())
