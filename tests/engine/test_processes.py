"""Who the processes are and where they meet; runs of several are in tests/tools and tests/slurm."""

import argparse
import socket

import pytest
import torch
from mmengine.config import Config
from torch import distributed

from finola_mm.engine import (
    LaunchError,
    Processes,
    ResumePoint,
    first_speaks,
)
from finola_mm.engine.processes import GIVEN, adapt_to_cpus, first_node, place
from tests.messages import shows

SLURM = dict(
    SLURM_PROCID='5',
    SLURM_NTASKS='16',
    SLURM_LOCALID='1',
    SLURM_JOB_ID='123',
    SLURM_STEP_ID='0',
    SLURM_STEP_NODELIST='localhost,n2',
)


@pytest.mark.parametrize(
    ('nodes', 'first'),
    [
        ('n1', 'n1'),
        ('n1,n2', 'n1'),
        ('n[1-2]', 'n1'),
        ('gpu[003,007-009]', 'gpu003'),
        ('rack[1-2]n[01,07],login', 'rack1n01'),
        ('a-b1,n[1-2]', 'a-b1'),
    ],
)
def test_first_node(nodes, first):
    assert first_node(nodes) == first


def test_slurm():
    found = place('slurm', SLURM)
    port = int(found.pop('MASTER_PORT'))
    assert found == dict(RANK='5', WORLD_SIZE='16', LOCAL_RANK='1', MASTER_ADDR='localhost')
    assert 1024 < port < 32768
    one_node = place('slurm', {**SLURM, 'SLURM_STEP_NODELIST': 'no-such-name'})
    assert one_node['MASTER_ADDR'] == '127.0.0.1'
    chosen = place('slurm', {**SLURM, 'MASTER_ADDR': 'head', 'MASTER_PORT': '7'})
    assert (chosen['MASTER_ADDR'], chosen['MASTER_PORT']) == ('head', '7')


def test_two_jobs_and_two_steps_meet_at_ports_of_their_own():
    ports = [
        place('slurm', {**SLURM, 'SLURM_JOB_ID': job, 'SLURM_STEP_ID': step})['MASTER_PORT']
        for job in ('123', '124', '125')
        for step in ('0', '1', '2')
    ]
    assert len(set(ports)) == len(ports)


def test_a_node_whose_name_does_not_resolve(monkeypatch):
    env = {**SLURM, 'SLURM_STEP_NODELIST': 'finola-no-such-node[1-2]'}
    command = 'scontrol show node finola-no-such-node1 --oneliner'
    answers = {command: 'NodeName=x NodeAddr=10.1.2.3 NodeHostName=y'}
    monkeypatch.setattr('subprocess.getoutput', lambda command: answers[command])
    assert place('slurm', env)['MASTER_ADDR'] == '10.1.2.3'
    monkeypatch.setattr('subprocess.getoutput', lambda command: 'scontrol: not found')
    with pytest.raises(LaunchError, match=shows('finola-no-such-node1', 'MASTER_ADDR')):
        place('slurm', env)


def test_mpi():
    env = dict(zip(GIVEN['mpi'], ('1', '2', '1'), strict=True))
    assert place('mpi', {**env, 'OMPI_COMM_WORLD_LOCAL_SIZE': '2'})['MASTER_ADDR'] == '127.0.0.1'
    with pytest.raises(LaunchError, match='mpirun -x MASTER_ADDR='):
        place('mpi', {**env, 'OMPI_COMM_WORLD_LOCAL_SIZE': '1'})


@pytest.mark.parametrize('launcher', GIVEN)
def test_a_launcher_that_did_not_start_this(launcher):
    with pytest.raises(LaunchError, match=shows(f'--launcher {launcher}', GIVEN[launcher][0])):
        place(launcher, {})


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(('127.0.0.1', 0))
        return trial.getsockname()[1]


@pytest.mark.parametrize('launcher', GIVEN)
def test_each_launcher_ends_in_a_process_group(monkeypatch, launcher):
    for name, value in zip(GIVEN[launcher], ('0', '1', '0'), strict=True):
        monkeypatch.setenv(name, value)
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'):  # set by the class: restored in the end
        monkeypatch.setenv(name, '0' if name != 'WORLD_SIZE' else '1')
    monkeypatch.setenv('MASTER_ADDR', '127.0.0.1')
    monkeypatch.setenv('MASTER_PORT', str(_free_port()))
    processes = Processes(launcher)
    with processes.one_voice():
        processes.join(Config(dict(env_cfg=dict(dist_cfg=dict(backend='nccl', timeout=60)))))
        assert distributed.get_backend() == ('nccl' if torch.cuda.is_available() else 'gloo')
        assert distributed.get_world_size() == 1
    assert not distributed.is_initialized()


@pytest.mark.parametrize(
    ('launcher', 'env', 'gpus', 'chosen'),
    [
        ('pytorch', dict(RANK='5', WORLD_SIZE='8', LOCAL_RANK='1'), 4, 1),
        ('slurm', SLURM, 4, 1),
        # SLURM gives each process a GPU of its own, and hides the others.
        ('slurm', {**SLURM, 'SLURM_GPUS_PER_TASK': '1'}, 1, 0),
        ('slurm', {**SLURM, 'SLURM_GPU_BIND': 'single:1'}, 1, 0),
        # It was asked for that and shows all the same.
        ('slurm', {**SLURM, 'SLURM_GPUS_PER_TASK': '1'}, 4, 1),
        ('slurm', {**SLURM, 'SLURM_LOCALID': '0'}, 1, 0),
        ('slurm', SLURM, 1, shows('GPU') + r'.*\b1\b.*\b1\b'),
        ('slurm', {**SLURM, 'SLURM_LOCALID': '3'}, 2, shows('GPU', 3, 2)),
    ],
)
def test_each_process_takes_its_gpu(monkeypatch, launcher, env, gpus, chosen):
    """With stand-ins for the GPUs and for the processes that it meets."""
    taken, groups = [], []
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    monkeypatch.setattr('torch.cuda.device_count', lambda: gpus)
    monkeypatch.setattr('torch.cuda.set_device', taken.append)
    monkeypatch.setattr(
        'torch.distributed.init_process_group',
        lambda backend, **where: groups.append((backend, where['rank'])),
    )
    monkeypatch.setattr('finola_mm.engine.processes.meet', distributed.HashStore)
    # Set by the class: restored in the end.
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_PORT'):
        monkeypatch.setenv(name, '0')
    for name, value in {**env, 'MASTER_ADDR': 'head'}.items():
        monkeypatch.setenv(name, value)
    processes = Processes(launcher)
    if isinstance(chosen, str):
        with pytest.raises(LaunchError, match=chosen):
            processes.join(Config())
    else:
        processes.join(Config())
        assert (taken, groups) == ([chosen], [('nccl', 5)])


class SharedStore:
    """What two processes count their failures in."""

    failed = 0

    def add(self, key, number):
        self.failed += number
        return self.failed


def test_the_first_that_fails_speaks():
    store, said = SharedStore(), []
    for message in ('train: the cause', 'train: what follows from it'):
        processes = Processes('none')
        processes.store = store
        with pytest.raises(SystemExit) as left, processes.one_voice():
            raise SystemExit(message)
        said.append(left.value.code)
    assert said == ['train: the cause', 1]


def two_processes():
    one, two = Processes('none'), Processes('none')
    one.store = two.store = distributed.HashStore()
    one.rank, two.rank = 0, 1
    return one, two


def test_what_the_first_computes_is_shared():
    for name, value in (('a', ResumePoint('iter_6.pth', ['iter_8.pth is damaged'])), ('b', None)):
        one, two = two_processes()
        assert one.shared(name, lambda value=value: value) == value
        assert two.shared(name, pytest.fail) == value
    assert Processes('none').shared('c', lambda: 3) == 3


def stale():
    raise OSError('Stale file handle')


def test_what_the_first_cannot_compute_ends_all():
    one, two = two_processes()
    with pytest.raises(OSError, match='Stale'), one.one_voice():
        one.shared('a', stale)
    with pytest.raises(SystemExit) as left, two.one_voice():
        two.shared('a', pytest.fail)
    assert left.value.code == 1


@pytest.mark.parametrize('rank', ['RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'])
def test_a_wrong_option_is_named_once(monkeypatch, capsys, rank):
    for number in (0, 1, 2):
        monkeypatch.setenv(rank, str(number))
        with monkeypatch.context() as patch, pytest.raises(SystemExit), first_speaks():
            patch.setattr('time.sleep', lambda seconds: None)
            argparse.ArgumentParser(prog='train').parse_args(['--no-such'])
    assert capsys.readouterr().err.count('unrecognized arguments: --no-such') == 1


def test_an_exit_code_of_its_own_passes():
    with pytest.raises(SystemExit, match='75'), Processes('none').one_voice():
        raise SystemExit(75)
    with pytest.raises(SystemExit, match='130'), Processes('none').one_voice():
        raise KeyboardInterrupt


def test_what_cpus_cannot_do(capsys):
    cfg = Config(dict(sync_bn='torch', find_unused_parameters=True))
    adapt_to_cpus(cfg, speak=True)
    assert cfg.sync_bn is None
    assert cfg.model_wrapper_cfg == dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=True,
        device_ids=None,
    )
    assert 'sync_bn' in capsys.readouterr().out
    adapt_to_cpus(Config(dict(sync_bn='torch')), speak=False)
    assert capsys.readouterr().out == ''
