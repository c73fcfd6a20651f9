"""The processes of a run: who they are, how they meet, and which of them speaks of an error.

MMEngine's ``init_dist`` fails without a GPU, lets all SLURM jobs of a machine meet at one port, and
asks for node names that resolve. Here the same launchers end in the same process group, which the
runner then finds: NCCL on GPUs, gloo without.
"""

import io
import os
import pickle
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from datetime import timedelta
from typing import Any

import torch
from mmengine.config import Config
from torch import distributed

from .fsdp_strategy import is_sharded

# What each launcher gives a process: (rank, number of processes, rank on its machine).
GIVEN = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
}
STARTED_BY = dict(
    pytorch='tools/dist_train.sh, tools/dist_test.sh or torchrun',
    slurm='tools/slurm_train.sh, tools/slurm_test.sh or srun',
    mpi='mpirun of Open MPI',
)
MEETING = timedelta(minutes=10)  # the longest that the processes wait for each other at the start
FIRST_PORT, PORTS = 10_000, 20_000  # below those that Linux gives to outgoing connections


class LaunchError(ValueError):
    """The processes cannot run together. The message is meant for the user."""


@contextmanager
def first_speaks() -> Iterator[None]:
    """Around the reading of the command line: what is wrong with it is said by process 0 alone."""
    ranks = (os.environ[rank] for rank, _, _ in GIVEN.values() if rank in os.environ)
    if int(next(ranks, 0)) == 0:
        yield
        return
    try:
        with redirect_stderr(io.StringIO()):
            yield
    except SystemExit:
        time.sleep(30)  # the launcher ends all with the first that leaves, which is to be 0
        raise


class Processes:
    """The processes that a launcher started, as one of them sees them.

    Args:
        launcher (str): 'none', 'pytorch', 'slurm' or 'mpi'. With 'none' there is this one, and
            everything here does nothing.
    """

    def __init__(self, launcher: str):
        self.store = None  # what all of them read and write
        if launcher == 'none':
            return
        os.environ.update(place(launcher, os.environ))
        self.rank = int(os.environ['RANK'])
        self.world_size = int(os.environ['WORLD_SIZE'])
        self.local_rank = int(os.environ['LOCAL_RANK'])
        self.store = meet()

    @contextmanager
    def one_voice(self) -> Iterator[None]:
        """Around the whole run: the first process that fails says why, the others say nothing.

        What fails in the others then are connections to the first. The launcher ends them all.
        """
        try:
            yield
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        except BaseException as error:
            silent = isinstance(error, SystemExit) and not isinstance(error.code, str)
            if silent or self._is_first_to_fail():
                raise
            raise SystemExit(1) from None
        if distributed.is_initialized():
            distributed.destroy_process_group()

    def _is_first_to_fail(self) -> bool:
        try:
            return self.store is None or self.store.add('failed', 1) == 1
        except RuntimeError:  # process 0 keeps the store and is gone: it spoke, or was killed
            return False

    def shared(self, name: str, compute: Callable[[], Any]) -> Any:
        """What process 0 computes, in all of them.

        Where it fails it raises, and the others leave in silence. ``name`` is used once.
        """
        if self.store is None:
            return compute()
        if self.rank:
            computed = pickle.loads(self.store.get(name))
            if not computed:
                raise SystemExit(1)
            return computed[0]
        computed = []
        try:
            computed.append(compute())
        finally:
            self.store.set(name, pickle.dumps(computed))
        return computed[0]

    def join(self, cfg: Config) -> None:
        """Make the process group as the config's ``env_cfg.dist_cfg`` says, before the runner.

        Without a GPU ``cfg`` is changed to what CPUs can do.

        Raises:
            LaunchError: more processes on this machine than GPUs.
        """
        if self.store is None:
            return
        options = dict(cfg.get('env_cfg', {}).get('dist_cfg', {}))
        backend = options.pop('backend', 'nccl')
        if 'timeout' in options:
            options['timeout'] = timedelta(seconds=options['timeout'])
        if torch.cuda.is_available():
            torch.cuda.set_device(self._device())
        else:
            backend = 'gloo' if backend == 'nccl' else backend
            adapt_to_cpus(cfg, speak=self.rank == 0)
        distributed.init_process_group(
            backend,
            store=distributed.PrefixStore('group', self.store),
            rank=self.rank,
            world_size=self.world_size,
            **options,
        )

    def _device(self) -> int:
        gpus = torch.cuda.device_count()
        if self.local_rank < gpus:
            return self.local_rank
        raise LaunchError(
            f'process {self.local_rank} of this machine (they count from 0) has no GPU: there '
            f'{"is" if gpus == 1 else "are"} {gpus}. Start as many processes as GPUs'
        )


def place(launcher: str, env: Mapping[str, str]) -> dict[str, str]:
    """The variables by which torch's processes meet, from those that the launcher set.

    Raises:
        LaunchError: the launcher did not start this process.
    """
    lacking = [name for name in GIVEN[launcher] if name not in env]
    if lacking:
        raise LaunchError(
            f'--launcher {launcher}, but {lacking[0]} is not set: processes for it are started by '
            f'{STARTED_BY[launcher]}'
        )
    rank, world_size, local_rank = (env[name] for name in GIVEN[launcher])
    found = dict(RANK=rank, WORLD_SIZE=world_size, LOCAL_RANK=local_rank)
    if (
        launcher == 'slurm'
        and torch.cuda.device_count() == 1
        and not env.keys().isdisjoint(('SLURM_GPUS_PER_TASK', 'SLURM_GPU_BIND'))
    ):
        found['LOCAL_RANK'] = '0'  # each process sees a GPU of its own, and no other
    address = dict(slurm=_slurm_address, mpi=_mpi_address).get(launcher, _given_address)
    found['MASTER_ADDR'] = env.get('MASTER_ADDR') or address(env)
    found['MASTER_PORT'] = env.get('MASTER_PORT') or _port(env)
    return found


def _given_address(env: Mapping[str, str]) -> str:
    raise LaunchError('--launcher pytorch, but MASTER_ADDR is not set: name the first machine')


def _mpi_address(env: Mapping[str, str]) -> str:
    if env.get('OMPI_COMM_WORLD_LOCAL_SIZE') == env['OMPI_COMM_WORLD_SIZE']:
        return '127.0.0.1'
    raise LaunchError(
        '--launcher mpi on several machines wants the first one by name: '
        'mpirun -x MASTER_ADDR=NAME ...'
    )


def _slurm_address(env: Mapping[str, str]) -> str:
    """The first node's. A node's name need not resolve: then SLURM knows its address."""
    nodes = env.get('SLURM_STEP_NODELIST') or env['SLURM_NODELIST']
    first = first_node(nodes)
    if first == nodes:  # the only one
        return '127.0.0.1'
    try:
        socket.getaddrinfo(first, None)
        return first
    except OSError:
        said = subprocess.getoutput(f'scontrol show node {first} --oneliner')
        address = re.search(r'\bNodeAddr=(\S+)', said)
        if address:
            return address[1]
    raise LaunchError(
        f'the name of the first node, {first}, does not resolve, and scontrol does not know its '
        'address; set MASTER_ADDR'
    )


def first_node(nodes: str) -> str:
    """The first name of SLURM's short form: ``rack[1-2]n[01,07],login`` -> ``rack1n01``."""
    return re.sub(r'\[([^],-]+)[^]]*\]', r'\1', nodes).partition(',')[0]


def _port(env: Mapping[str, str]) -> str:
    """One for each step of each job, so that two on a machine do not meet each other."""
    job, step = env.get('SLURM_JOB_ID', '0'), env.get('SLURM_STEP_ID', '0')
    return str(FIRST_PORT + (int(job) * 17 + int(step)) % PORTS)


def meet() -> distributed.Store:
    """Wait for all processes at MASTER_ADDR; -> a store that they share.

    Raises:
        LaunchError: they did not meet.
    """
    try:
        store, rank, world_size = next(distributed.rendezvous('env://', timeout=MEETING))
        # Nobody goes on, to fail perhaps and take the store along, before all have found it.
        store.set(f'here/{rank}', b'')
        store.wait([f'here/{k}' for k in range(world_size)], MEETING)
    except (RuntimeError, ValueError) as error:
        where = f'{os.environ["MASTER_ADDR"]}:{os.environ["MASTER_PORT"]}'
        raise LaunchError(
            f'the processes did not meet at {where} (MASTER_ADDR, MASTER_PORT): '
            f'{str(error).splitlines()[0]}'
        ) from None
    return store


def adapt_to_cpus(cfg: Config, *, speak: bool) -> None:
    """Change in a config of several processes what CPUs cannot do."""
    # The runner hands the wrapper a device, which torch refuses for a model on the CPU.
    wrapper = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.model_wrapper_cfg = {**(cfg.get('model_wrapper_cfg') or wrapper), 'device_ids': None}
    if is_sharded(cfg):  # a number would be that of a GPU
        cfg.strategy.model_wrapper = {**cfg.strategy.get('model_wrapper', {}), 'device_id': 'cpu'}
    if cfg.get('sync_bn'):
        if speak:
            print(f'sync_bn={cfg.sync_bn!r} is left out: BatchNorm over processes wants GPUs.')
        cfg.sync_bn = None
