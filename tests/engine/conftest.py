import pytest
import torch
from mmengine.fileio.backends import registry_utils
from mmengine.runner import CheckpointLoader

from finola_mm.engine import register_checkpoint_io
from tests.engine.whole import META, Whole, randomized


@pytest.fixture
def checkpoint_io(monkeypatch):
    """Read and write local checkpoints by this package, for one test."""
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    for table in (registry_utils.backends, registry_utils.prefix_to_backends):
        for name, backend in table.items():
            monkeypatch.setitem(table, name, backend)
    register_checkpoint_io()


@pytest.fixture(scope='module')
def source():
    """The model whose weights are written to files."""
    torch.manual_seed(0)
    return randomized(Whole())


@pytest.fixture
def write(tmp_path):
    """Write a state dict to a checkpoint; return its path."""

    def write(state, meta=META, name='w.pth'):
        torch.save(dict(meta=meta, state_dict=dict(state)), tmp_path / name)
        return tmp_path / name

    return write
