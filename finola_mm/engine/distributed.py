"""Create the process group of a run started by torchrun, srun or mpirun.

MMEngine's ``init_dist`` requires a GPU, resolvable node names, and one SLURM job per machine.
"""

import os
import re
import subprocess
from collections.abc import Mapping
from datetime import timedelta

from mmengine.config import Config
from torch import cuda, device, distributed

from ..errors import UserError
from ..functional.compat import BINDS_DEVICE, RENDEZVOUS_ERRORS
from .workers import end_on_ctrl_c

# Variables for rank, number of ranks and local rank: those of torch and those of each launcher.
TORCH = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')
SLURM = ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID')
OPEN_MPI = tuple(f'OMPI_COMM_WORLD_{name}' for name in ('RANK', 'SIZE', 'LOCAL_RANK'))
VARIABLES = {'pytorch': TORCH, 'slurm': SLURM, 'mpi': OPEN_MPI}


def init_dist(launcher: str, cfg: Config) -> None:
    """Create the process group of ``env_cfg.dist_cfg``; without a GPU, with gloo."""
    if launcher == 'none':
        return
    end_on_ctrl_c()
    os.environ.update(rendezvous_env(launcher, os.environ, gpus=cuda.device_count()))
    options = {'backend': 'nccl', **cfg.get('env_cfg', {}).get('dist_cfg', {})}
    if 'timeout' in options:
        options['timeout'] = timedelta(seconds=options['timeout'])
    if cuda.is_available():
        own = device('cuda', int(os.environ['LOCAL_RANK']))
        cuda.set_device(own)
        if BINDS_DEVICE:
            options['device_id'] = own
    else:
        options['backend'] = options['backend'].replace('nccl', 'gloo')
        if (sync_bn := cfg.pop('sync_bn', None)) and os.environ['RANK'] == '0':
            print(f'sync_bn={sync_bn!r} is ignored: it requires GPUs')
    try:
        distributed.init_process_group(**options)  # MMEngine's Runner uses it
    except RENDEZVOUS_ERRORS as error:
        where = 'MASTER_ADDR {MASTER_ADDR}, MASTER_PORT {MASTER_PORT}'.format(**os.environ)
        raise UserError(f'not all ranks connected to {where}: {error}'.partition('\n')[0]) from None


def rendezvous_env(launcher: str, env: Mapping[str, str], *, gpus: int) -> dict[str, str]:
    """Translate a launcher's variables into those of torch's ``env://``."""
    missing = [name for name in VARIABLES[launcher] if name not in env]
    if missing:
        raise UserError(f'--launcher {launcher}: {missing[0]} is not set; see docs/cluster.md')
    found = {ours: env[theirs] for ours, theirs in zip(TORCH, VARIABLES[launcher], strict=True)}
    if gpus == 1 and env.keys() & {'SLURM_GPUS_PER_TASK', 'SLURM_GPU_BIND'}:
        found['LOCAL_RANK'] = '0'  # SLURM makes only its own GPU visible to each task
    if int(found['LOCAL_RANK']) >= gpus > 0:
        raise UserError(f'no GPU for local rank {found["LOCAL_RANK"]}: start at most {gpus} ranks')
    # Two SLURM jobs, or two steps of one job, must not share a port.
    port = 17 * int(env.get('SLURM_JOB_ID', 0)) + int(env.get('SLURM_STEP_ID', 0))
    found['MASTER_PORT'] = env.get('MASTER_PORT') or str(10_000 + port % 20_000)
    found['MASTER_ADDR'] = env.get('MASTER_ADDR') or _first_machine(launcher, env)
    return found


def _first_machine(launcher: str, env: Mapping[str, str]) -> str:
    if launcher == 'mpi' and env.get('OMPI_COMM_WORLD_LOCAL_SIZE') == env[OPEN_MPI[1]]:
        return '127.0.0.1'  # all ranks are on this machine
    if launcher == 'slurm' and 'SLURM_STEP_NODELIST' in env:  # not without srun
        nodes = env['SLURM_STEP_NODELIST']
        first = re.sub(r'\[(\w+)[^]]*\]', r'\1', nodes).partition(',')[0]  # n[01-02],m -> n01
        if first == nodes:
            return '127.0.0.1'
        said = subprocess.getoutput(f'scontrol show node {first} --oneliner')
        if address := re.search(r'\bNodeAddr=(\S+)', said):  # the name may not resolve
            return address[1]
    raise UserError(f'--launcher {launcher}: set MASTER_ADDR to the first machine (SLURM: srun)')
