"""The frame of the set-up: resuming, refusing, waiting, explaining; its steps are stand-ins."""

import importlib
import os
import re
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.messages import shows

SCRIPTS = Path(__file__).resolve().parents[2] / 'scripts'


@pytest.fixture
def setup_env(tmp_path, monkeypatch):
    """The script as a module, for a checkout in ``tmp_path``."""
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.delitem(sys.modules, 'setup_env', raising=False)
    module = importlib.import_module('setup_env')
    for name, path in {
        'ROOT': '.',
        'VENV': '.venv',
        'STATE': '.venv/.setup',
        'LOG': '.venv/setup.log',
    }.items():
        monkeypatch.setattr(module, name, tmp_path / path)
    monkeypatch.setattr(module, 'check_machine', lambda: None)
    (tmp_path / 'finola_mm').mkdir()
    for name in ('setup.py', 'finola_mm/environment.py'):
        (tmp_path / name).write_text('')
    (tmp_path / 'requirements.txt').write_text('# pins\ntorch==2.11.0\n\nnumpy==2.2.6  # why\n')
    return module


@pytest.fixture
def done(setup_env, monkeypatch):
    """The steps that were done, in order; the stand-ins do nothing else."""
    calls = []

    def stand_in(step):
        def work(pins, log):
            calls.append(step)

        return work

    for step, (_, title) in setup_env.STEPS.items():
        monkeypatch.setitem(setup_env.STEPS, step, (stand_in(step), title))
    return calls


def test_pins(setup_env):
    assert setup_env.read_pins() == {'torch': 'torch==2.11.0', 'numpy': 'numpy==2.2.6'}


def test_second_run_does_nothing_and_says_nothing(setup_env, done, capsys):
    setup_env.main()
    assert done == ['venv', 'torch', 'others', 'mmcv', 'project']
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.search(r'\d:\d\d', last) and '5/5' not in last
    setup_env.main()
    assert len(done) == 5 and capsys.readouterr().out == ''


def test_interrupted_set_up_goes_on(setup_env, done, monkeypatch):
    def interrupted(pins, log):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(setup_env.STEPS, 'mmcv', (interrupted, 'mmcv'))
        with pytest.raises(KeyboardInterrupt):
            setup_env.main()
    assert done == ['venv', 'torch', 'others']
    setup_env.main()
    assert done[3:] == ['mmcv', 'project']


def test_remains_of_a_killed_pip_are_removed(setup_env, done):
    setup_env.main()
    (setup_env.STATE / 'project').unlink()
    site = setup_env.VENV / 'lib' / 'python3.11' / 'site-packages'
    for folder in ('torch-2.11.0.dist-info', '~orch', 'numpy-2.2.6.dist-info', 'numpy'):
        (site / folder).mkdir(parents=True)
    (site / 'numpy-2.2.6.dist-info' / 'RECORD').write_text('')
    setup_env.main()
    assert {path.name for path in site.iterdir()} == {'numpy-2.2.6.dist-info', 'numpy'}


@pytest.mark.parametrize('change', ['pins', 'python', 'place', 'layout'])
def test_other_contents_make_it_anew(setup_env, done, monkeypatch, capsys, tmp_path, change):
    setup_env.main()
    (setup_env.VENV / 'stale').write_text('')
    if change == 'pins':
        (tmp_path / 'requirements.txt').write_text('torch==2.12.0\n')
    else:
        changed = dict(setup_env.wanted_key(setup_env.read_pins()), **{change: 'another'})
        monkeypatch.setattr(setup_env, 'wanted_key', lambda pins: changed)
    setup_env.main()
    assert len(done) == 10 and not (setup_env.VENV / 'stale').exists()
    assert re.search(rf'(?=.*\.venv\b).*\b{change}\b', capsys.readouterr().out)


def test_comments_beside_the_pins_change_nothing(setup_env, done, tmp_path):
    setup_env.main()
    (tmp_path / 'requirements.txt').write_text('numpy==2.2.6\ntorch==2.11.0\n# new comment\n')
    setup_env.main()
    assert len(done) == 5


def test_edited_setup_py_installs_the_project_again(setup_env, done, tmp_path):
    setup_env.main()
    (tmp_path / 'setup.py').write_text('changed')
    setup_env.main()
    assert done[5:] == ['project']


def test_only_one_at_a_time(setup_env, done, capsys):
    """The second waits, finds the work done, and repeats none of it."""
    with setup_env.lock():
        second = threading.Thread(target=setup_env.main)
        second.start()
        while not capsys.readouterr().out:
            time.sleep(0.01)
        assert done == []
        key = setup_env.wanted_key(setup_env.read_pins())
        stamps = setup_env.missing_steps(key)
        setup_env.prepare(key)
        for step, stamp in stamps.items():
            (setup_env.STATE / step).write_text(stamp)
    second.join()
    assert done == []


def test_bare_machine(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.delitem(sys.modules, 'setup_env', raising=False)
    module = importlib.import_module('setup_env')
    monkeypatch.setattr(module, 'VENV', tmp_path / '.venv')
    monkeypatch.setattr(module, 'STATE', tmp_path / '.venv' / '.setup')
    monkeypatch.setattr(module, 'find_spec', lambda name: None)
    monkeypatch.setattr(module.sysconfig, 'get_path', lambda name: str(tmp_path))
    monkeypatch.setattr(module.shutil, 'which', lambda name: None)
    with pytest.raises(module.SetupError) as error:
        module.check_machine()
    python = f'python{sys.version_info[0]}.{sys.version_info[1]}'
    assert (
        str(error.value).splitlines()[-1] == f'    apt-get install {python}-venv {python}-dev g++'
    )
    (tmp_path / '.venv').mkdir()
    (tmp_path / '.venv' / 'pyvenv.cfg').write_text('of somebody else')
    with pytest.raises(module.SetupError, match=shows(tmp_path / '.venv')):
        module.check_machine()


@pytest.fixture
def log(setup_env, tmp_path):
    return setup_env.SetupLog(tmp_path / 'log')


def test_failed_command_shows_its_last_lines(setup_env, log, tmp_path):
    with pytest.raises(setup_env.SetupError, match='    line 39$') as error:
        log.run(['sh', '-c', 'for i in $(seq 39); do echo line $i; done; exit 3'], tmp_path, None)
    assert 'line 25' in str(error.value) and 'line 24' not in str(error.value)


def test_missing_network_is_told_in_words(setup_env, log, tmp_path):
    """With pip itself, asked for an index where nothing listens."""
    env = {'PATH': os.environ['PATH'], 'PIP_CONFIG_FILE': os.devnull}
    with pytest.raises(setup_env.SetupError, match=shows('HTTPS_PROXY', 'PIP_INDEX_URL', log.path)):
        log.run(
            [
                sys.executable,
                '-m',
                'pip',
                'download',
                '--retries',
                '1',
                '--timeout',
                '5',
                '--index-url',
                'http://127.0.0.1:9/simple',
                'no-such-package',
            ],
            tmp_path,
            env,
        )


def test_interrupt_takes_the_children_down(log, tmp_path):
    def interrupt():
        while not (tmp_path / 'child').exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        log.run(
            ['sh', '-c', 'sleep 60 & echo $! > child.part; mv child.part child; wait'],
            tmp_path,
            None,
            interrupt,
        )
    child = Path('/proc', (tmp_path / 'child').read_text().strip(), 'stat')
    for _ in range(100):  # the kernel may need a moment
        if not child.exists() or child.read_text().rpartition(')')[2].split()[0] == 'Z':
            return
        time.sleep(0.05)
    pytest.fail(f'still running: {child.read_text()}')
