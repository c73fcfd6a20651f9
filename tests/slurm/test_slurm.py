"""The scripts under a SLURM of two nodes, both on this machine."""

import re
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.tools.trouble import assert_same_run, write_config

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def script(cluster, name, *args, expect=0, **env):
    """Run tools/NAME.sh with one rank on each of two nodes (env: other settings); return output."""
    env = dict(GPUS='2', GPUS_PER_NODE='1', CPUS_PER_TASK='1') | env
    return cluster.run(ROOT / 'tools' / f'{name}.sh', *args, env=env, expect=expect)


def submit(cluster, config, work_dir, **env) -> str:
    """Submit a batch job; return its number."""
    said = script(cluster, 'slurm_train', 'main', 'finola', config, work_dir, SBATCH='1', **env)
    return said.split()[-1]


@pytest.fixture(scope='module')
def whole(cluster, tmp_path_factory, image_folder) -> Path:
    """Return the work directory of an uninterrupted run of two ranks on one node."""
    folder = tmp_path_factory.mktemp('slurm_whole')
    config = write_config(folder / 'whole.py', image_folder)
    said = script(
        cluster, 'slurm_train', 'main', 'finola', config, folder / 'run', GPUS_PER_NODE='2'
    )
    assert said.count('Epoch(train) [4][2/2]') == 1, 'one rank writes the log'
    return folder / 'run'


def test_two_ranks_train(whole):
    assert (whole / 'epoch_4.pth').is_file()


def test_two_nodes_test(cluster, whole, tmp_path):
    said = script(
        cluster,
        'slurm_test',
        'main',
        'finola',
        whole.parent / 'whole.py',
        whole,
        '--work-dir',
        tmp_path,
    )
    assert said.count('masked/psnr: ') == 1


def test_a_job_is_requeued_before_its_time_limit(cluster, whole, image_folder, tmp_path):
    """Its result is bit-identical to the run on one node; USR1 comes as before a time limit."""
    config = write_config(
        tmp_path / 'stopped.py',
        image_folder,
        type='Run',
        iteration=3,
        rank=1,
        command='scancel --batch --signal=USR1 $SLURM_JOB_ID',
    )
    work_dir = tmp_path / 'run'
    job = submit(cluster, config, work_dir)
    found = cluster.wait_for(job, 'COMPLETED', 'FAILED', 'CANCELLED')
    log = (work_dir / f'slurm-{job}.log').read_text()
    assert found['JobState'] == 'COMPLETED' and found['Restarts'] == '1', log[-4000:]
    assert found['NumNodes'] == '2'
    assert len(re.findall(r'(?m)^(?=.*SIGUSR1).*interrupted\.pth', log)) == 1
    assert re.search(rf'slurm_batch: .*\b{job}\b', log)
    assert 3 <= torch.load(work_dir / 'interrupted.pth', weights_only=False)['meta']['iter'] < 8
    assert log.count('Epoch(train) [1][1/2]') == 1
    assert_same_run(work_dir / 'epoch_4.pth', whole / 'epoch_4.pth')


def test_a_cancelled_job_saves_and_stays_cancelled(cluster, image_folder, tmp_path):
    config = write_config(
        tmp_path / 'cancelled.py',
        image_folder,
        type='Run',
        iteration=2,
        command='scancel $SLURM_JOB_ID',
    )
    work_dir = tmp_path / 'run'
    job = submit(cluster, config, work_dir, GPUS='1')
    found = cluster.wait_for(job, 'CANCELLED', 'COMPLETED', 'FAILED')
    log = (work_dir / f'slurm-{job}.log').read_text()
    assert found['JobState'] == 'CANCELLED' and found['Restarts'] == '0', log[-4000:]
    assert re.search(r'(?m)^(?=.*SIGTERM).*interrupted\.pth', log)
    assert (work_dir / 'interrupted.pth').is_file()


# Stand-in for tools/train.py: runs until SIGTERM; resumed, it ends at once.
TRAINER = """
case "$*" in *--resume) echo resumed; exit 0 ;; esac
trap 'touch {folder}/last_checkpoint; exit 75' TERM
touch {folder}/started
while :; do sleep 0.1; done
"""


def test_a_job_of_higher_priority(cluster, tmp_path):
    """At a pre-emption SLURM signals the ranks and not the batch script."""
    (tmp_path / 'trainer.sh').write_text(TRAINER.format(folder=tmp_path))
    said = cluster.run(
        'sbatch',
        '--ntasks=2',
        '--ntasks-per-node=1',
        '--requeue',
        '--open-mode=append',
        f'--output={tmp_path}/log',
        ROOT / 'tools/slurm_batch.sh',
        tmp_path,
        'bash',
        tmp_path / 'trainer.sh',
    )
    job = said.split()[-1]
    cluster.wait_until((tmp_path / 'started').exists, 'the job')
    cluster.run('srun', '--partition=urgent', '--nodes=2', '--exclusive', 'true')
    found = cluster.wait_for(job, 'COMPLETED', 'FAILED', 'CANCELLED')
    log = (tmp_path / 'log').read_text()
    assert found['JobState'] == 'COMPLETED' and found['Restarts'] == '1', log
    assert log.count('resumed') == 2 and re.search(rf'slurm_batch: .*\b{job}\b', log)


def test_a_mistake_is_one_line_of_each_rank(cluster, tmp_path):
    """srun ends the other rank, which may have printed the same line before."""
    said = script(cluster, 'slurm_train', 'main', 'finola', 'no_such.py', tmp_path, expect=None)
    assert 'exit code 1' in said
    assert 1 <= len(re.findall(r'train: .*\bno_such\.py\b', said)) <= 2
    assert 'Traceback' not in said
