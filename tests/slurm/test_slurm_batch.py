"""The commands of tools/slurm_batch.sh, with stand-ins for SLURM's programs."""

import os
import re
import subprocess

import pytest

from tests.conftest import ROOT

# The stand-ins. srun prints its arguments and exits with $CODE.
PROGRAMS = dict(
    srun='echo "srun: $*"; exit ${CODE:-0}',
    scontrol='echo "scontrol: $* $STATE"',
    scancel='echo "scancel: $*"',
    sleep='',
)


@pytest.fixture
def batch(tmp_path):
    """Run the script for work directory ``tmp_path``; return (exit status, output)."""
    for name, command in PROGRAMS.items():
        (tmp_path / name).write_text(f'#!/bin/sh\n{command}\n')
        (tmp_path / name).chmod(0o755)

    def batch(**env):
        env = {**os.environ, 'PATH': f'{tmp_path}:{os.environ["PATH"]}', **env}
        result = subprocess.run(
            [ROOT / 'tools/slurm_batch.sh', tmp_path, 'train', 'c.py'],
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
        )
        return result.returncode, result.stdout

    return batch


def write_checkpoint(folder, *, seconds):
    """Write ``last_checkpoint``, dated ``seconds`` after the first start of job 7."""
    (folder / 'last_checkpoint').touch()
    time = (folder / '.slurm-7').stat().st_mtime + seconds
    os.utime(folder / 'last_checkpoint', (time, time))


def test_a_requeued_job_resumes_its_own_checkpoint_only(batch, tmp_path):
    starts = dict(SLURM_JOB_ID='7', SLURM_RESTART_COUNT='0')
    assert batch(**starts)[1].startswith('srun: --kill-on-bad-exit=1 train c.py\n')
    starts['SLURM_RESTART_COUNT'] = '1'
    assert '--resume' not in batch(**starts)[1], 'it was stopped before its first checkpoint'
    write_checkpoint(tmp_path, seconds=-1)
    assert '--resume' not in batch(**starts)[1], 'an older run has written it'
    write_checkpoint(tmp_path, seconds=1)
    assert batch(**starts)[1].startswith('srun: --kill-on-bad-exit=1 train c.py --resume\n')
    # Another job in the same folder starts a new run, and keeps the marker of the first job.
    assert '--resume' not in batch(SLURM_JOB_ID='8')[1]
    assert batch(**starts)[1].startswith('srun: --kill-on-bad-exit=1 train c.py --resume\n')


@pytest.mark.parametrize(
    ('code', 'state', 'requeued'),
    [
        ('75', 'PreemptTime=2026-01-01', True),
        ('143', 'PreemptTime=2026-01-01', True),
        ('1', 'PreemptTime=2026-01-01', False),
        ('75', 'PreemptTime=None', False),
    ],
)
def test_which_jobs_are_requeued(batch, code, state, requeued):
    """Those that SLURM ended, and not those that failed."""
    left, said = batch(SLURM_JOB_ID='7', CODE=code, STATE=state)
    assert left == int(code)
    assert ('scontrol: requeue 7' in said) == requeued
    assert bool(re.search(r'slurm_batch: .*\b7\b', said)) == requeued
