"""Two processes on a CPU, started by the scripts: they train, fail and stop together."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from mmengine.config import Config

from tests.conftest import ROOT
from tests.forks import run_script as tool
from tests.messages import shows
from tests.tools.trouble import assert_same_run, write_config


def script(name, *args, cwd, expect=0):
    """tools/NAME.sh from another folder; -> (stdout, stderr)."""
    command = [str(ROOT / 'tools' / f'{name}.sh'), *map(str, args)]
    env = {**os.environ, 'OMP_NUM_THREADS': '1'}
    result = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert result.returncode == expect, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout, result.stderr


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('two_processes')


@pytest.fixture(scope='module')
def config(folder, image_folder):
    return write_config(folder / 'whole.py', image_folder)


@pytest.fixture(scope='module')
def whole(folder, config):
    """(work directory, stdout) of the uninterrupted run."""
    out, _ = script('dist_train', config, 2, '--work-dir', folder / 'whole', cwd=folder)
    return folder / 'whole', out


def test_two_processes_train(whole):
    work_dir, out = whole
    assert (work_dir / 'epoch_4.pth').is_file()
    assert out.count('Epoch(train) [4][2/2]') == 1, 'one process writes the log'
    # processes, images, steps, the batch, the learning rate
    logged = [re.findall(r'\d+(?:\.\d+)?', line) for line in re.findall('INFO - (.*)', out)]
    assert list(map(sorted, logged)).count(['0.0005', '1', '2', '2', '4']) == 1


def test_what_two_processes_log_one_process_tests(config, folder, project_root):
    """Each has BatchNorm statistics of its own, and the checkpoint holds one's.

    Training judges with the statistics of the model, and ``EMAHook`` saves those of its average.
    """
    cfg = Config.fromfile(config)
    assert any(hook['type'] == 'EMAHook' for hook in cfg.custom_hooks)
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.default_hooks.checkpoint.interval = 1
    path, work_dir, tested = folder / 'judged.py', folder / 'judged', folder / 'tested.json'
    cfg.dump(path)
    script('dist_train', path, 2, '--work-dir', work_dir, cwd=folder)
    (scalars,) = work_dir.glob('*/vis_data/scalars.json')
    logged = json.loads(scalars.read_text().splitlines()[-1])
    tool('tools/test.py', path, work_dir, '--work-dir', folder / 'test', '--out', tested)
    found = json.loads(tested.read_text())
    assert found['masked/psnr'] == pytest.approx(logged['masked/psnr'], rel=1e-6)


def test_sigterm_saves_and_resume_is_exact(whole, folder, image_folder):
    """The signal goes to the script's process, as from a batch system, in the second epoch."""
    stopped = write_config(
        folder / 'stopped.py',
        image_folder,
        type='Run',
        iteration=3,
        rank=1,
        command='kill -TERM {parent}',
    )
    work_dir = folder / 'stopped'
    out, err = script('dist_train', stopped, 2, '--work-dir', work_dir, cwd=folder, expect=75)
    saved = work_dir / 'interrupted.pth'
    said = [line for line in (out + err).splitlines() if 'SIGTERM' in line]
    assert len(said) == 1 and str(saved) in said[0]
    assert 'Traceback' not in out + err
    assert (work_dir / 'last_checkpoint').read_text() == str(saved)
    assert 3 <= torch.load(saved, weights_only=False)['meta']['iter'] < 8

    out, _ = script(
        'dist_train', whole[0].with_suffix('.py'), 2, '--work-dir', work_dir, '--resume', cwd=folder
    )
    assert 'Epoch(train) [1]' not in out
    assert_same_run(work_dir / 'epoch_4.pth', whole[0] / 'epoch_4.pth')


WAITS_FOR_THE_OTHER = """
import torch
from mmengine.config import Config
from finola_mm.engine import Processes

processes = Processes('pytorch')
with processes.one_voice():
    processes.join(Config())
    if processes.rank == 1:
        raise RuntimeError('this process has had enough')
    torch.distributed.all_reduce(torch.zeros(1))
"""


def test_an_exception_on_one_process_ends_all(tmp_path):
    """The other waits in a reduction, which then fails too; but that says nothing."""
    (tmp_path / 'waits.py').write_text(WAITS_FOR_THE_OTHER)
    tool = os.path.relpath(tmp_path / 'waits.py', ROOT / 'tools')
    _, err = script('launch/launch', 2, tool, cwd=tmp_path, expect=1)
    assert err.rstrip().endswith('RuntimeError: this process has had enough')
    assert err.count('Traceback') == 1


def test_a_mistake_is_reported_once_by_two_machines(tmp_path):
    """One process on each; that both are this machine does not matter to them."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        env = {
            **os.environ,
            'NNODES': '2',
            'MASTER_ADDR': '127.0.0.1',
            'PORT': str(free.getsockname()[1]),
        }
    command = [ROOT / 'tools/dist_test.sh', 'no_such.py', 'w.pth', '1']
    machines = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**env, 'NODE_RANK': rank},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in ('0', '1')
    ]
    out, err = map(''.join, zip(*(each.communicate(timeout=300) for each in machines), strict=True))
    assert [each.returncode for each in machines] == [1, 1]
    assert out == '' and re.fullmatch(r'test: .*\bno_such\.py\b.*\n', err)


@pytest.mark.parametrize(
    ('name', 'args'),
    [
        ('dist_train', ['c.py']),
        ('dist_test', ['c.py', 'w.pth']),
        ('slurm_train', ['part', 'job', 'c.py']),
        ('slurm_test', ['part', 'job', 'c.py']),
    ],
)
def test_too_few_arguments(tmp_path, name, args):
    _, err = script(name, *args, cwd=tmp_path, expect=2)
    assert err.startswith('usage: ') and len(err.splitlines()) == 1


@pytest.mark.parametrize('number', ['two', '0', '--amp'])
def test_a_number_of_gpus_that_is_none(tmp_path, number):
    _, err = script('dist_train', 'c.py', number, cwd=tmp_path, expect=2)
    assert re.search(shows('GPUS', number), err) and len(err.splitlines()) == 1


WAITS = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
pathlib.Path('waits').touch()
time.sleep(60)
"""


@pytest.mark.parametrize('ignored', [False, True])
def test_a_closed_terminal(tmp_path, ignored):
    """It asks the run to save and end, unless nohup was to prevent that."""
    (tmp_path / 'waits.py').write_text(WAITS)
    tool = os.path.relpath(tmp_path / 'waits.py', ROOT / 'tools')
    command = ['nohup'] * ignored + [str(ROOT / 'tools/launch/launch.sh'), '1', tool]
    launched = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )  # the tests may have nohup
    while not (tmp_path / 'waits').exists():
        assert launched.poll() is None
        time.sleep(0.05)
    launched.send_signal(signal.SIGHUP)
    if ignored:
        with pytest.raises(subprocess.TimeoutExpired):
            launched.wait(1)
        launched.send_signal(signal.SIGTERM)
    assert launched.wait(60) == 75


HANGS = """
import os, pathlib, signal, threading, time
import torch
from torch import distributed

signal.signal(signal.SIGINT, lambda *_: print('noted', flush=True))
parent = os.getpid()
rank = int(os.fork() == 0)
distributed.init_process_group(
    'gloo', store=distributed.FileStore('store', 2), rank=rank, world_size=2)
while rank and os.getppid() == parent:  # stands in for another machine, which never answers
    time.sleep(0.1)
if not rank:
    threading.Timer(1, pathlib.Path('hangs').touch).start()  # by then it is in the reduction
    distributed.all_reduce(torch.zeros(1))
"""


def test_ctrl_c_twice_ends_what_hangs_in_a_reduction(tmp_path):
    """No handler of Python's runs there: it is killed, here after a part of the ten seconds."""
    (tmp_path / 'hangs.py').write_text(HANGS)
    launch = (
        f'import sys; sys.path.insert(0, {str(ROOT / "tools/launch")!r}); import launch; '
        'launch.PATIENCE /= 10; launch.main()'
    )
    command = [
        sys.executable,
        '-c',
        launch,
        '--standalone',
        '--local-addr',
        '127.0.0.1',
        '--nproc-per-node',
        '1',
        'hangs.py',
    ]
    launched = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / 'hangs').exists():
        assert launched.poll() is None
        time.sleep(0.05)
    launched.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        launched.wait(1.1)  # it would finish its step now
    launched.send_signal(signal.SIGINT)
    again = time.monotonic()
    assert launched.wait(60) == 128 + signal.SIGKILL
    assert time.monotonic() - again > 0.9
    out, err = launched.communicate()
    assert out == '', 'a handler ran, so it hung elsewhere'
    assert re.match(r'launch: (?=.*\b0\b).*SIGKILL', err)


def test_a_killed_process_is_named(tmp_path):
    """As when the machine's memory is used up."""
    (tmp_path / 'killed.py').write_text('import os; os.kill(os.getpid(), 9)')
    tool = os.path.relpath(tmp_path / 'killed.py', ROOT / 'tools')
    _, err = script('launch/launch', 1, tool, cwd=tmp_path, expect=128 + signal.SIGKILL)
    assert re.fullmatch(r'launch: (?=.*\b0\b).*SIGKILL.*\n', err)
