"""One SLURM cluster on this machine for all tests of this folder."""

import os

import pytest

from tests.slurm.cluster import Cluster, obstacle


@pytest.fixture(scope='session')
def cluster(tmp_path_factory):
    """Skip with the reason if it cannot start; with FINOLA_SLURM=1, as in CI, fail."""
    reason = obstacle()
    if reason:
        say = pytest.fail if os.environ.get('FINOLA_SLURM') == '1' else pytest.skip
        say(f'no SLURM here: {reason}')
    with Cluster(tmp_path_factory.mktemp('slurm')) as cluster:
        yield cluster
