"""Objects that a checkpoint may contain besides tensors; all others are refused."""

import io
import pickle
import re
import subprocess
import sys
import tarfile
import textwrap
import zipfile

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from finola_mm.engine import CheckpointError, read_checkpoint
from finola_mm.engine.checkpoints import unpickler
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


# numpy.core in NumPy 1, numpy._core in NumPy 2
_reconstruct = np.zeros(1).__reduce__()[0]
scalar = np.float64(1).__reduce__()[0]

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


@pytest.mark.parametrize('core', ['core', '_core'])
def test_an_array_of_either_numpy(tmp_path, core):
    content = pickle.dumps(dict(array=np.arange(3.0), number=np.float64(2)), protocol=2)
    content = re.sub(rb'numpy\._?core', f'numpy.{core}'.encode(), content)
    found = unpickler.load(io.BytesIO(content))
    assert found['array'].tolist() == [0.0, 1.0, 2.0] and found['number'] == 2.0


HISTORY = HistoryBuffer([1.0], [1])
CLASS = f'c{HistoryBuffer.__module__}\nHistoryBuffer\n'.encode()
NAMESPACE = b'cargparse\nNamespace\n)\x81'
METHOD = b'c__builtin__\ngetattr\n(' + CLASS + b'U\x13register_statisticstR'
ATTACKS = {
    'call of a method': METHOD + b'(' + CLASS + b'tR.',
    'call of a method by a rebuilt tensor': b'ctorch._tensor\n_rebuild_from_type_v2\n('
    + METHOD
    + CLASS
    + b'('
    + CLASS
    + b't}tR.',
    'attribute of a class': CLASS + b'(N}U\x04meanNstb.',
    'append to an object': NAMESPACE + b'Na.',
    'item of an object': NAMESPACE + b'NNs.',
    'persistent module': b'(U\x06moduleNtQ.',
    'instance': b'(cargparse\nNamespace\no.',
    'registered extension': b'\x82\x01.',
}


@pytest.mark.parametrize('name', ATTACKS)
def test_only_admitted_functions_are_called_and_no_class_is_changed(name):
    mean, known = HistoryBuffer.mean, dict(HISTORY._statistics_methods)
    expected = KeyError if name in ('instance', 'registered extension') else unpickler.RefusedError
    with pytest.raises(expected):  # KeyError: the operation is not supported
        unpickler.load(io.BytesIO(b'\x80\x02' + ATTACKS[name]))
    assert HistoryBuffer.mean is mean and HISTORY._statistics_methods == known


def test_torchscript_and_tar_are_refused(tmp_path):
    """``torch.load`` would build the module, and unpack the archive."""
    torch.save({}, tmp_path / 'w.pth')
    with zipfile.ZipFile(tmp_path / 'w.pth', 'a') as archive:
        archive.writestr('w/constants.pkl', b'')
    with pytest.raises(CheckpointError, match=shows('w.pth', 'TorchScript')):
        read_checkpoint(tmp_path / 'w.pth')
    with tarfile.open(tmp_path / 'w.tar', 'w', encoding='latin1') as tar:
        tar.addfile(tarfile.TarInfo('\x80storages'))
    with pytest.raises(CheckpointError, match=shows('w.tar', 'torch.save')):
        read_checkpoint(tmp_path / 'w.tar')


def test_all_kinds_of_tensors(tmp_path):
    """Compare with torch's own unpickler, in both of its formats."""
    attributed = torch.ones(2)
    attributed.note = 'x'
    content = dict(
        types={str(t): torch.ones(2, 3).to(t) for t in (torch.half, torch.bfloat16, torch.bool)},
        shared=[torch.arange(6)[1:], torch.arange(6).reshape(2, 3).t()],
        complex=torch.ones(1, dtype=torch.complex64),
        attributed=attributed,
        parameter=torch.nn.Parameter(torch.ones(2)),
        sparse=torch.eye(3).to_sparse(),
        others=[torch.Size([1, 2]), torch.device('cpu'), torch.float16, {1}, 1j, b'ab', slice(2)],
    )
    for zipped in (True, False):
        torch.save(content, tmp_path / 'w.pth', _use_new_zipfile_serialization=zipped)
        found, expected = (
            read_checkpoint(tmp_path / 'w.pth'),
            torch.load(tmp_path / 'w.pth', weights_only=False),
        )
        assert repr(found) == repr(expected)
