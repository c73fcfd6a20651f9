"""Two CPU ranks, started by the scripts: they train, fail and stop together."""

import inspect
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
from torch.distributed import run

from tests.conftest import ROOT, TORCHRUN_WORKS
from tests.forks import run_script as tool
from tests.messages import shows
from tests.tools.trouble import assert_same_run, write_config

pytestmark = pytest.mark.skipif(
    not TORCHRUN_WORKS, reason='torchrun before torch 2.4 crashes with Python 3.12'
)
of_newer_torchrun = pytest.mark.skipif(
    'signals_to_handle' not in inspect.getsource(run),
    reason='torchrun of older torch handles signals itself',
)


def script(name, *args, cwd, expect=0):
    """Run tools/NAME.sh from another folder; return (stdout, stderr)."""
    return call(ROOT / 'tools' / f'{name}.sh', *args, cwd=cwd, expect=expect)


def launch(*args, cwd, expect=0):
    return call(sys.executable, ROOT / 'tools/launch.py', *args, cwd=cwd, expect=expect)


def call(*command, cwd, expect):
    command = [*map(str, command)]
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
    """Return (work directory, stdout) of the uninterrupted run."""
    out, _ = script('dist_train', config, 2, '--work-dir', folder / 'whole', cwd=folder)
    return folder / 'whole', out


def test_two_ranks_train(whole):
    work_dir, out = whole
    assert (work_dir / 'epoch_4.pth').is_file()
    assert out.count('Epoch(train) [4][2/2]') == 1, 'one rank writes the log'
    # ranks, images, steps, batch size, learning rate
    logged = [re.findall(r'\d+(?:\.\d+)?', line) for line in re.findall('INFO - (.*)', out)]
    assert list(map(sorted, logged)).count(['0.0005', '1', '2', '2', '4']) == 1
    assert_no_thread_was_left(work_dir)


@pytest.mark.slow
def test_two_ranks_log_what_one_rank_tests(config, folder, project_root):
    """Ranks have different BatchNorm statistics; the checkpoint holds those of rank 0.

    Validation uses the statistics of the model, ``EMAHook`` saves those of its average.
    """
    cfg = Config.fromfile(config)
    assert any(hook['type'] == 'EMAHook' for hook in cfg.custom_hooks)
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.default_hooks.checkpoint.interval = 1
    path, work_dir, tested = folder / 'evaluated.py', folder / 'evaluated', folder / 'tested.json'
    cfg.dump(path)
    script('dist_train', path, 2, '--work-dir', work_dir, cwd=folder)
    (scalars,) = work_dir.glob('*/vis_data/scalars.json')
    logged = json.loads(scalars.read_text().splitlines()[-1])
    tool('tools/test.py', path, work_dir, '--work-dir', folder / 'test', '--out', tested)
    found = json.loads(tested.read_text())
    assert found['masked/psnr'] == pytest.approx(logged['masked/psnr'], rel=1e-6)


def assert_no_thread_was_left(work_dir):
    """One of gloo may abort the process while the interpreter exits."""
    assert [(work_dir / f'threads_{rank}').read_text() for rank in (0, 1)] == ['1', '1']


@pytest.mark.slow
@of_newer_torchrun
def test_sigterm_saves_and_resume_is_exact(whole, folder, image_folder):
    """A batch system would signal the script's process; here in the second epoch."""
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
    assert_no_thread_was_left(work_dir)

    out, _ = script(
        'dist_train', whole[0].with_suffix('.py'), 2, '--work-dir', work_dir, '--resume', cwd=folder
    )
    assert 'Epoch(train) [1]' not in out
    assert_same_run(work_dir / 'epoch_4.pth', whole[0] / 'epoch_4.pth')


@pytest.mark.slow
def test_unused_parameters(config, folder):
    """DDP would say which indices they have, in a traceback."""
    cfg = Config.fromfile(config)
    cfg.model.backbone.type = 'tests.tools.trouble.WithUnused'
    cfg.train_cfg.max_epochs = 1
    cfg.dump(folder / 'unused.py')
    command = ['dist_train', folder / 'unused.py', 2, '--work-dir', folder / 'unused']
    _, err = script(*command, cwd=folder, expect=1)
    said = [line for line in err.splitlines() if line.startswith('train: ')]
    assert len(said) == 1 and 'Traceback' not in err
    assert re.search(shows('backbone.unused.bias', 'find_unused_parameters=True'), said[0])


FAILS = """
import torch
from mmengine.config import Config
from finola_mm.apis import command_line
from finola_mm.engine import init_dist
from finola_mm.errors import UserError

@command_line
def main():
    init_dist('pytorch', Config())
    if torch.distributed.get_rank() == {rank}:
        raise {error}('the cause')
    torch.distributed.all_reduce(torch.zeros(1))

main()
"""


def fails(tmp_path, **what):
    (tmp_path / 'fails.py').write_text(FAILS.format(**what))
    out, err = launch(2, 'fails.py', cwd=tmp_path, expect=1)
    assert out == ''
    return err.rstrip()


def test_an_exception_on_rank_1_ends_all_ranks(tmp_path):
    """Rank 0 waits in a reduction and may print that it failed, too; the cause comes last."""
    err = fails(tmp_path, rank=1, error='RuntimeError')
    assert err.endswith('RuntimeError: the cause')
    assert re.search(r'(?m)^launch: .*\b1: Traceback', err)


def test_a_mistake_that_rank_1_finds_is_one_line(tmp_path):
    err = fails(tmp_path, rank=1, error='UserError')
    assert re.fullmatch(r'launch: .*\b1: .*UserError: the cause', err.splitlines()[-1])


@pytest.mark.slow
def test_a_mistake_that_rank_0_finds_is_printed_once(tmp_path):
    assert fails(tmp_path, rank=0, error='UserError') == 'fails: the cause'


@pytest.mark.slow
def test_a_mistake_is_reported_by_each_of_two_machines(tmp_path):
    """One rank on each machine; here both are this one."""
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
    for machine in machines:
        out, err = machine.communicate(timeout=300)
        assert machine.returncode == 1
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


@of_newer_torchrun
@pytest.mark.parametrize('ignored', [False, True])
def test_a_closed_terminal(tmp_path, ignored):
    """The run saves and exits, unless it was started by nohup."""
    (tmp_path / 'waits.py').write_text(WAITS)
    launched = subprocess.Popen(
        ['nohup'] * ignored + [sys.executable, ROOT / 'tools/launch.py', '1', 'waits.py'],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # The tests themselves may run under nohup.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
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
while rank and os.getppid() == parent:  # stand-in for another machine, which never answers
    time.sleep(0.1)
if not rank:
    threading.Timer(1, pathlib.Path('hangs').touch).start()  # by then it is in the reduction
    distributed.all_reduce(torch.zeros(1))
"""


@of_newer_torchrun
def test_a_second_ctrl_c_ends_what_hangs_in_a_reduction(tmp_path):
    """No Python handler runs there, so the rank is killed; here after 1 s instead of 10."""
    (tmp_path / 'hangs.py').write_text(HANGS)
    launch = (
        f'import sys; sys.path.insert(0, {str(ROOT / "tools")!r}); import launch; '
        'launch.PATIENCE /= 10; launch.main()'
    )
    launched = subprocess.Popen(
        [sys.executable, '-c', launch, '1', 'hangs.py'],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / 'hangs').exists():
        assert launched.poll() is None
        time.sleep(0.05)
    launched.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        launched.wait(1.1)  # a real run would finish its step now
    launched.send_signal(signal.SIGINT)
    again = time.monotonic()
    assert launched.wait(60) == 128 + signal.SIGKILL
    assert time.monotonic() - again > 0.9
    out, err = launched.communicate()
    assert out == '', 'a handler ran, so it hung elsewhere'
    assert re.match(r'launch: (?=.*\b0\b).*SIGKILL', err)


def test_a_killed_rank_is_named(tmp_path):
    """As when the machine's memory is used up."""
    (tmp_path / 'killed.py').write_text('import os; os.kill(os.getpid(), 9)')
    _, err = launch(1, 'killed.py', cwd=tmp_path, expect=128 + signal.SIGKILL)
    assert re.fullmatch(r'launch: (?=.*\b0\b).*SIGKILL.*\n', err)
