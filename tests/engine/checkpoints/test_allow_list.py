"""Objects that a checkpoint may contain besides tensors; all others are refused."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from numpy._core.multiarray import _reconstruct, scalar

from finola_mm.engine import CheckpointError, read_checkpoint
from tests.messages import shows


class Calls:
    """Unpickling calls a function with these arguments and sets the state of the result."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ('owner', 'name'), [(HistoryBuffer, '__init__'), (np.ndarray, 'tofile'), (dict, 'pop')]
)
def test_getattr_reaches_nothing_but_the_methods_of_a_history(tmp_path, owner, name):
    torch.save(dict(extra=Calls(getattr, (owner, name))), tmp_path / 'w.pth')
    with pytest.raises(CheckpointError, match=shows('w.pth', 'FINOLA_TRUST_CHECKPOINTS=1')):
        read_checkpoint(tmp_path / 'w.pth')


POINTER = b'AAAAAAAA'  # as an array of objects, an invalid address
OBJECTS = Calls(np.dtype, ('O',))
FORGED = {
    'state': Calls(_reconstruct, (np.ndarray, (0,), b'b'), (1, (1,), OBJECTS, False, POINTER)),
    'fields': Calls(
        _reconstruct,
        (np.ndarray, (0,), b'b'),
        (1, (1,), Calls(np.dtype, ('O,f8',)), False, POINTER * 2),
    ),
    'named': Calls(np.ndarray, ((1,), 'O', POINTER)),
    'nested': Calls(
        _reconstruct,
        (np.ndarray, (1,), 'O'),
        (1, (1,), Calls(np.dtype, (OBJECTS,)), False, POINTER),
    ),
    'scalar': Calls(scalar, (OBJECTS, POINTER)),
}


def test_forged_arrays_are_refused(tmp_path):
    """In a separate process, which an invalid address would crash."""
    for name, array in FORGED.items():
        torch.save(dict(extra=Calls(getattr, (array, 'mean')), array=array), tmp_path / f'{name}.a')
        torch.save(dict(array=array), tmp_path / f'{name}.b')
    code = f"""
        from pathlib import Path
        from finola_mm.engine import CheckpointError, read_checkpoint
        for file in sorted(Path({str(tmp_path)!r}).iterdir()):
            try:
                print(file.name, repr(read_checkpoint(file)), flush=True)
            except CheckpointError:
                print(file.name, 'refused', flush=True)
    """
    result = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    expected = [f'{name}.{letter} refused' for name in sorted(FORGED) for letter in 'ab']
    assert result.stdout.splitlines() == expected


def test_round_trip_of_arrays_of_numbers(tmp_path):
    """After a resume, the next checkpoint contains arrays read from the last one."""
    arrays = dict(
        flags=np.array([True, False]),
        big=np.arange(4, dtype='>i4'),
        none=np.zeros((0, 3)),
        fortran=np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        complex=np.array(1j),
    )
    torch.save(arrays, tmp_path / 'first.pth')
    torch.save(read_checkpoint(tmp_path / 'first.pth'), tmp_path / 'second.pth')
    again = read_checkpoint(tmp_path / 'second.pth')
    by_numpy = torch.load(tmp_path / 'second.pth', weights_only=False)
    for name, array in arrays.items():
        for found in (again[name], by_numpy[name]):
            assert found.dtype.newbyteorder('=') == array.dtype.newbyteorder('=')
            assert found.shape == array.shape
            assert np.array_equal(found, array), name
        assert type(by_numpy[name]) is np.ndarray


def test_an_array_under_its_numpy_1_name(tmp_path, monkeypatch):
    monkeypatch.setattr(_reconstruct, '__module__', 'numpy.core.multiarray')
    torch.save(dict(array=np.arange(3.0)), tmp_path / 'w.pth')
    assert b'numpy.core.multiarray' in (tmp_path / 'w.pth').read_bytes()
    monkeypatch.undo()
    assert read_checkpoint(tmp_path / 'w.pth')['array'].tolist() == [0.0, 1.0, 2.0]
