"""Ranks, addresses and GPUs of each launcher. tests/tools and tests/slurm start several ranks."""

import signal
import socket
import subprocess
import sys
import time
from unittest.mock import create_autospec

import pytest
import torch
from mmengine.config import Config
from torch import distributed

from finola_mm.engine import init_dist
from finola_mm.engine.distributed import VARIABLES, rendezvous_env
from finola_mm.errors import UserError
from finola_mm.functional.compat import BINDS_DEVICE
from tests.conftest import ROOT
from tests.messages import shows

SLURM = dict(
    SLURM_PROCID='5',
    SLURM_NTASKS='16',
    SLURM_LOCALID='1',
    SLURM_JOB_ID='123',
    SLURM_STEP_ID='0',
    SLURM_STEP_NODELIST='n1,n2',
)
ADDRESS = dict(MASTER_ADDR='head', MASTER_PORT='7')


@pytest.fixture
def scontrol(monkeypatch):
    """Stand-in for scontrol: command -> output."""
    answers = {}
    monkeypatch.setattr(
        'subprocess.getoutput', lambda command: answers.get(command, 'scontrol: not found')
    )
    return answers


def slurm(**changes):
    return rendezvous_env('slurm', {**SLURM, **changes}, gpus=0)


@pytest.mark.parametrize(
    ('nodes', 'first'),
    [
        ('n1,n2', 'n1'),
        ('n[1-2]', 'n1'),
        ('gpu[003,007-009]', 'gpu003'),
        ('rack[1-2]n[01,07],login', 'rack1n01'),
        ('a-b1,n[1-2]', 'a-b1'),
    ],
)
def test_slurm_on_several_nodes(scontrol, nodes, first):
    """The address is that of the first node, whose name need not resolve."""
    command = f'scontrol show node {first} --oneliner'
    scontrol[command] = f'NodeName={first} NodeAddr=10.1.2.3 NodeHostName=y'
    found = slurm(SLURM_STEP_NODELIST=nodes)
    assert 1024 < int(found.pop('MASTER_PORT')) < 32768
    assert found == dict(RANK='5', WORLD_SIZE='16', LOCAL_RANK='1', MASTER_ADDR='10.1.2.3')


def test_slurm_without_srun():
    """A batch script has the other variables."""
    with pytest.raises(UserError, match=shows('MASTER_ADDR', 'srun')):
        slurm()


def test_slurm_on_one_node():
    assert slurm(SLURM_STEP_NODELIST='no-such-name')['MASTER_ADDR'] == '127.0.0.1'


def test_a_given_address_is_used(scontrol):
    found = slurm(**ADDRESS)
    assert (found['MASTER_ADDR'], found['MASTER_PORT']) == ('head', '7')
    with pytest.raises(UserError, match='MASTER_ADDR'):
        slurm()


def test_every_slurm_step_has_its_own_port(scontrol):
    ports = [
        slurm(SLURM_JOB_ID=job, SLURM_STEP_ID=step, MASTER_ADDR='head')['MASTER_PORT']
        for job in ('123', '124', '125')
        for step in ('0', '1', '2')
    ]
    assert len(set(ports)) == len(ports)


def test_mpi():
    env = dict(zip(VARIABLES['mpi'], ('1', '2', '1'), strict=True))
    found = rendezvous_env('mpi', {**env, 'OMPI_COMM_WORLD_LOCAL_SIZE': '2'}, gpus=0)
    assert found['MASTER_ADDR'] == '127.0.0.1'
    with pytest.raises(UserError, match='MASTER_ADDR'):
        rendezvous_env('mpi', {**env, 'OMPI_COMM_WORLD_LOCAL_SIZE': '1'}, gpus=0)


@pytest.mark.parametrize('launcher', VARIABLES)
def test_a_launcher_that_did_not_start_this(launcher):
    with pytest.raises(UserError, match=shows(f'--launcher {launcher}', VARIABLES[launcher][0])):
        rendezvous_env(launcher, {}, gpus=0)


@pytest.mark.parametrize(
    ('env', 'gpus', 'chosen'),
    [
        (SLURM, 4, 1),
        # SLURM shows each task one GPU only.
        ({**SLURM, 'SLURM_GPUS_PER_TASK': '1'}, 1, 0),
        ({**SLURM, 'SLURM_GPU_BIND': 'single:1'}, 1, 0),
        # SLURM shows all GPUs in spite of the option.
        ({**SLURM, 'SLURM_GPUS_PER_TASK': '1'}, 4, 1),
        ({**SLURM, 'SLURM_LOCALID': '0'}, 1, 0),
        (SLURM, 1, shows('GPU') + r'.*\b1\b.*\b1\b'),
        ({**SLURM, 'SLURM_LOCALID': '3'}, 2, shows('GPU', 3, 2)),
    ],
)
def test_each_rank_has_its_gpu(monkeypatch, env, gpus, chosen):
    """With stand-ins for the GPUs and for the process group."""
    taken, group = [], create_autospec(torch.distributed.init_process_group)
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    monkeypatch.setattr('torch.cuda.device_count', lambda: gpus)
    monkeypatch.setattr('torch.cuda.set_device', taken.append)
    monkeypatch.setattr('torch.distributed.init_process_group', group)
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'):  # init_dist sets them: restored at the end
        monkeypatch.setenv(name, '0')
    for name, value in {**env, **ADDRESS}.items():
        monkeypatch.setenv(name, value)
    if isinstance(chosen, str):
        with pytest.raises(UserError, match=chosen):
            init_dist('slurm', Config())
    else:
        init_dist('slurm', Config())
        device = torch.device('cuda', chosen)
        assert taken == [device]
        group.assert_called_once_with(
            backend='nccl', **(dict(device_id=device) if BINDS_DEVICE else {})
        )


def free_port() -> str:
    with socket.socket() as trial:
        trial.bind(('127.0.0.1', 0))
        return str(trial.getsockname()[1])


@pytest.fixture
def one_rank(monkeypatch):
    """Set the variables of a launcher that started one rank, at a free port."""

    def set_variables(launcher, world_size='1'):
        values = ('0', world_size, '0')
        for names in (VARIABLES['pytorch'], VARIABLES[launcher]):
            for name, value in zip(names, values, strict=True):
                monkeypatch.setenv(name, value)
        monkeypatch.setenv('MASTER_ADDR', '127.0.0.1')
        monkeypatch.setenv('MASTER_PORT', free_port())

    return set_variables


@pytest.mark.parametrize('launcher', VARIABLES)
def test_each_launcher_creates_a_process_group(one_rank, launcher):
    one_rank(launcher)
    init_dist(launcher, Config(dict(env_cfg=dict(dist_cfg=dict(backend='nccl', timeout=60)))))
    assert distributed.get_backend() == ('nccl' if torch.cuda.is_available() else 'gloo')
    assert distributed.get_world_size() == 1
    distributed.destroy_process_group()


def test_ranks_that_do_not_meet(one_rank):
    one_rank('pytorch', world_size='2')
    with pytest.raises(UserError, match=shows('127.0.0.1', 'MASTER_PORT')):
        init_dist('pytorch', Config(dict(env_cfg=dict(dist_cfg=dict(timeout=1)))))


WAITS = """
from mmengine.config import Config
from finola_mm.engine import init_dist
print('waits', flush=True)
init_dist('pytorch', Config(dict(env_cfg=dict(dist_cfg=dict(timeout=100)))))
"""


def test_ctrl_c_while_ranks_meet(one_rank):
    """The wait for other ranks is in C code, where Python's handler for Ctrl-C does not run."""
    one_rank('pytorch', world_size='2')
    rank = subprocess.Popen([sys.executable, '-c', WAITS], stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert rank.stdout.readline() == b'waits\n'
        time.sleep(1)
        rank.send_signal(signal.SIGINT)
        assert rank.wait(30) == -signal.SIGINT
    finally:
        rank.kill()
        rank.communicate()


def test_no_launcher_changes_nothing():
    cfg = Config(dict(sync_bn='torch'))
    init_dist('none', cfg)
    assert cfg.to_dict() == dict(sync_bn='torch') and not distributed.is_initialized()


@pytest.mark.skipif(torch.cuda.is_available(), reason='for machines without a GPU')
def test_a_config_on_cpus(one_rank, capsys):
    cfg = Config(dict(sync_bn='torch'))
    one_rank('pytorch')
    init_dist('pytorch', cfg)
    distributed.destroy_process_group()
    assert cfg.get('sync_bn') is None and 'sync_bn' in capsys.readouterr().out
