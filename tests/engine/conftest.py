import pytest
import torch

from tests.engine.whole import META, Whole, randomised


@pytest.fixture(scope='module')
def source():
    """The model whose weights a file holds."""
    torch.manual_seed(0)
    return randomised(Whole())


@pytest.fixture
def write(tmp_path):
    """Make a checkpoint of a state; -> its path."""

    def write(state, meta=META, name='w.pth'):
        torch.save(dict(meta=meta, state_dict=dict(state)), tmp_path / name)
        return tmp_path / name

    return write
