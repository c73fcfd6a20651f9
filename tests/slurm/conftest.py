"""A SLURM of one machine for all tests of this folder."""

import os

import pytest

from tests.slurm.cluster import Cluster, obstacle


@pytest.fixture(scope='session')
def cluster(tmp_path_factory):
    """Skips where there can be none, with the reason; with FINOLA_SLURM=1, as in CI, that fails."""
    reason = obstacle()
    if reason:
        say = pytest.fail if os.environ.get('FINOLA_SLURM') == '1' else pytest.skip
        say(f'no SLURM here: {reason}')
    with Cluster(tmp_path_factory.mktemp('slurm')) as cluster:
        yield cluster
