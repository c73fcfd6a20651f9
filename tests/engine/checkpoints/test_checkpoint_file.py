"""Checkpoint files: round trips, and files that are refused."""

import argparse
import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from torch import nn

from finola_mm.engine import (
    CheckpointError,
    checkpoint_metadata,
    read_checkpoint,
    write_weights,
)
from finola_mm.errors import UserError
from tests.messages import shows

WEIGHTS = {
    'weight': torch.arange(12.0).reshape(3, 4).t(),  # not contiguous
    'half': torch.ones(2, dtype=torch.bfloat16),
    'count': torch.tensor(7),
    'form': torch.tensor(1, dtype=torch.uint8),
}
META = dict(format_version=1, source='a_config', widths=dict(tokens=(6, 64)), mean=[1.5, 2])


class Calls:
    """Unpickling calls a function with these arguments."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_round_trip(tmp_path, suffix):
    file = write_weights(tmp_path / f'sub/w{suffix}', WEIGHTS, meta=META)
    content = read_checkpoint(file)
    assert content['meta'] == {**META, 'widths': dict(tokens=[6, 64])}
    assert content['state_dict'].keys() == WEIGHTS.keys()
    for name, tensor in content['state_dict'].items():
        assert tensor.dtype == WEIGHTS[name].dtype and torch.equal(tensor, WEIGHTS[name])
        assert tensor.is_contiguous()
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_torch_alone_reads_the_file(tmp_path):
    """In a process without this package, by weights_only without an allow-list."""
    file = write_weights(tmp_path / 'w.pth', WEIGHTS, meta=META)
    code = f"import torch; print(torch.load({str(file)!r}, weights_only=True)['meta']['source'])"
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.stdout == 'a_config\n', result.stderr


def test_a_view_is_written_without_its_storage(tmp_path):
    view = torch.zeros(1_000_000)[:2]
    assert write_weights(tmp_path / 'w.pth', dict(view=view), meta={}).stat().st_size < 10_000


def test_hash_is_of_the_content(tmp_path):
    first = write_weights(tmp_path / 'a' / 'w.pth', WEIGHTS, meta=META, hashed=True)
    second = write_weights(tmp_path / 'b' / 'w.pth', WEIGHTS, meta=META, hashed=True)
    other = write_weights(tmp_path / 'b' / 'w.pth', WEIGHTS, meta={}, hashed=True)
    digest = subprocess.check_output(['sha256sum', first], text=True)[:8]
    assert first.name == second.name == f'w-{digest}.pth' != other.name


def disk_full(content, file):
    file.write(b'PK')
    raise OSError('disk full')


def test_no_file_is_overwritten_or_left_incomplete(tmp_path, monkeypatch):
    file = write_weights(tmp_path / 'w.pth', WEIGHTS, meta=META)
    with pytest.raises(UserError, match=shows('w.pth', '--force')):
        write_weights(file, {}, meta={})
    with monkeypatch.context() as patch:
        patch.setattr(torch, 'save', disk_full)
        with pytest.raises(OSError, match='disk full'):
            write_weights(file, {}, meta={}, force=True)
    assert read_checkpoint(file)['meta']['source'] == 'a_config'
    assert len(list(tmp_path.iterdir())) == 1
    write_weights(file, WEIGHTS, meta=dict(source='new'), force=True)
    assert read_checkpoint(file)['meta'] == dict(source='new')
    with pytest.raises(ValueError, match=shows('w.bin', '.pth', '.safetensors')):
        write_weights(tmp_path / 'w.bin', WEIGHTS, meta=META)


def test_a_foreign_object_is_refused_and_not_run(tmp_path, monkeypatch, checkpoint_io):
    made = tmp_path / 'made'
    torch.save(dict(state_dict=WEIGHTS, extra=Calls(os.mkdir, (str(made),))), tmp_path / 'w.pth')
    for read in (read_checkpoint, lambda path: CheckpointLoader.load_checkpoint(str(path))):
        seen = shows('w.pth', 'posix.mkdir', 'FINOLA_TRUST_CHECKPOINTS=1')
        with pytest.raises(CheckpointError, match=seen):
            read(tmp_path / 'w.pth')
    assert not made.exists()
    monkeypatch.setenv('FINOLA_TRUST_CHECKPOINTS', '1')
    read_checkpoint(tmp_path / 'w.pth')
    assert made.exists()
    torch.save(dict(extra=Calls(int, ('x',))), tmp_path / 'w.pth')
    with pytest.raises(ValueError, match='^invalid literal'):  # the class's own error
        read_checkpoint(tmp_path / 'w.pth')


def test_the_config_that_a_resume_would_run_is_left_out(tmp_path, monkeypatch, checkpoint_io):
    """MMEngine executes ``meta['config']``, but not ``meta['cfg']``, which its checkpoints have."""
    made = tmp_path / 'made'
    meta = dict(cfg='a = 1', config=f'import os\nos.mkdir({str(made)!r})')
    torch.save(dict(meta=meta, state_dict=WEIGHTS), tmp_path / 'w.pth')
    for content in (
        read_checkpoint(tmp_path / 'w.pth'),
        CheckpointLoader.load_checkpoint(str(tmp_path / 'w.pth')),
    ):
        assert content['meta'] == dict(cfg='a = 1')
    monkeypatch.setenv('FINOLA_TRUST_CHECKPOINTS', '1')
    assert read_checkpoint(tmp_path / 'w.pth')['meta'] == meta


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        (dict(state_dict=[1]), {'state_dict', 'list', 'dict'}),
        (dict(meta='x', a=1), {'meta', 'str', 'dict'}),
    ],
)
def test_entries_of_another_type(tmp_path, content, said):
    torch.save(content, tmp_path / 'w.pth')
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path / 'w.pth')
    message = str(caught.value)
    assert 'w.pth' in message and '\n' not in message
    assert said <= set(re.findall(r'\w+', message))


def test_harmless_objects_of_foreign_files(tmp_path):
    """The arguments of MAE's and DETR's scripts, for example."""
    args = argparse.Namespace(lr=0.1, output_dir=Path('out'), frozen=frozenset([1]))
    torch.save(dict(model=dict(x=torch.ones(1)), args=args), tmp_path / 'w.pth')
    assert read_checkpoint(tmp_path / 'w.pth')['args'] == args


def test_metadata_of_foreign_files():
    """Entries of another type are left out, as are MMEngine's."""
    meta = dict(cfg='a = 1', iter=3, encoder='x', source=torch.ones(1), normalization=dict(mean=1))
    assert checkpoint_metadata(dict(meta=meta)) == dict(iter=3, normalization=dict(mean=1))
    assert checkpoint_metadata({}) == {}


def test_meta_that_json_cannot_represent(tmp_path):
    for meta in (dict(a=torch.ones(1)), {(1, 2): 3}):
        with pytest.raises(TypeError, match='Tensor|tuple'):
            write_weights(tmp_path / 'w.pth', WEIGHTS, meta=meta)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'error',
    [
        PermissionError(errno.EACCES, 'Permission denied'),
        OSError(errno.ESTALE, 'Stale file handle'),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate"),
        RuntimeError('CUDA error: out of memory'),
        MemoryError(),
    ],
    ids=repr,
)
def test_a_good_file_is_not_called_damaged(tmp_path, monkeypatch, error):
    """A user may delete a file that is reported as damaged."""
    file = write_weights(tmp_path / 'w.pth', WEIGHTS, meta=META)

    def fails(*args, **kwargs):
        raise error

    monkeypatch.setattr(torch, 'load', fails)
    with pytest.raises(type(error)) as caught:
        read_checkpoint(file)
    assert caught.value is error


def test_content_of_training_checkpoints(tmp_path):
    history = HistoryBuffer([1.0, 2.0, 6.0], [1, 1, 1])
    optimizer = torch.optim.AdamW(nn.Linear(2, 2).parameters())
    scaler = dict(scale=65536.0, growth_factor=2.0, growth_interval=2000, _growth_tracker=0)
    content = dict(
        message_hub=dict(log_scalars=dict(loss=history), eta=np.float64(3.5), n=np.int64(2)),
        optimizer={**optimizer.state_dict(), 'loss_scaler': scaler},
    )
    torch.save(content, tmp_path / 'w.pth')
    hub = read_checkpoint(tmp_path / 'w.pth')['message_hub']
    assert hub['log_scalars']['loss'].statistics('mean', 2) == 4.0
    assert hub['eta'] == 3.5 and hub['n'] == 2


SIZE = r'\b{size}\b'  # of the file, in bytes


def damaged(tmp_path, suffix, change):
    file = write_weights(tmp_path / f'w{suffix}', WEIGHTS, meta=META)
    file.write_bytes(change(file.read_bytes()))
    return file


@pytest.mark.parametrize(
    ('suffix', 'change', 'said'),
    [
        ('.pth', lambda b: b'', 'torch.save'),
        ('.pth', lambda b: b'<!DOCTYPE html>', '<!DOCTYPE html'),
        ('.pth', lambda b: b[:-200], SIZE),
        ('.pth', lambda b: b[: len(b) // 2], SIZE),
        ('.pth', lambda b: b.replace(b'state_dict', b'state\x85dict'), SIZE),
        ('.pth', lambda b: b'\x80\x02}q\x00', SIZE),
        ('.safetensors', lambda b: b.replace(b'{\\"', b'!!!', 1), SIZE),
        ('.safetensors', lambda b: b'', SIZE),
        ('.safetensors', lambda b: b[:-1], SIZE),
    ],
)
def test_a_broken_file_is_named(tmp_path, suffix, change, said):
    file = damaged(tmp_path, suffix, change)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(file)
    message = str(caught.value)
    assert re.search(said.format(size=file.stat().st_size), message)
    assert file.name in message and '\n' not in message


def test_no_file_and_no_dict(tmp_path):
    with pytest.raises(CheckpointError, match=shows('nowhere.pth')):
        read_checkpoint('nowhere.pth')
    with pytest.raises(CheckpointError, match=shows('https://example.org/w.pth')):
        read_checkpoint('https://example.org/w.pth')
    torch.save([1, 2], tmp_path / 'w.pth')
    with pytest.raises(CheckpointError, match=shows('w.pth', 'list', 'state_dict')):
        read_checkpoint(tmp_path / 'w.pth')
