"""A file is complete or absent, regardless of how writing fails."""

import errno
import os
import platform
import re
import runpy
import sys
from pathlib import Path

import pytest
from mmengine.fileio import get_file_backend
from mmengine.runner import Runner, save_checkpoint

from finola_mm.engine import CheckpointError, atomic_write, read_checkpoint
from finola_mm.engine.checkpoints.checkpoint_file import remove_stale_tmp
from tests.conftest import tiny_options
from tests.messages import shows


def failing_disk(patch, number):
    """Make ``os.fsync`` fail, as on a disk that becomes full."""

    def fails(descriptor):
        raise OSError(number, os.strerror(number))

    patch.setattr(os, 'fsync', fails)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_new_content_replaces_the_old(tmp_path):
    for content in (b'old', b'new'):
        atomic_write(tmp_path / 'a.pth', content)
    assert (tmp_path / 'a.pth').read_bytes() == b'new' and names(tmp_path) == ['a.pth']


def test_bytes_before_name_before_folder(tmp_path, monkeypatch):
    """In another order, a power cut leaves an empty file."""
    done = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(
        os, 'fsync', lambda d: (done.append(os.readlink(f'/proc/self/fd/{d}')), fsync(d))
    )
    monkeypatch.setattr(Path, 'replace', lambda a, b: (done.append('renamed'), replace(a, b))[1])
    atomic_write(tmp_path / 'a.pth', b'x')
    unfinished = str(tmp_path / f'.a.pth.{platform.node()}.{os.getpid()}.unfinished')
    assert done == [unfinished, 'renamed', str(tmp_path)]


def test_two_machines_do_not_share_a_temporary_file(tmp_path, monkeypatch):
    """Both write the same file at the same time, from processes of the same number."""
    replaced, replace = [], Path.replace

    def interrupted(source, target):
        replaced.append(source.name)
        if len(replaced) == 1:
            monkeypatch.setattr(platform, 'node', lambda: 'other')
            atomic_write(tmp_path / 'a.jpg', b'other', sync=False)
        return replace(source, target)

    monkeypatch.setattr(Path, 'replace', interrupted)
    atomic_write(tmp_path / 'a.jpg', b'mine', sync=False)
    assert (tmp_path / 'a.jpg').read_bytes() == b'mine' and names(tmp_path) == ['a.jpg']
    assert len(set(replaced)) == 2 and all(str(os.getpid()) in name for name in replaced)


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, checkpoint_io):
    file = tmp_path / 'iter_2.pth'
    save_checkpoint(dict(state_dict={}), str(file))
    (tmp_path / 'last_checkpoint').write_text(str(file))
    before = file.read_bytes()
    failing_disk(monkeypatch, errno.ENOSPC)
    with pytest.raises(CheckpointError) as caught:
        save_checkpoint(dict(state_dict={}, more=b'x' * 2_000_000), str(file))
    message = str(caught.value)
    assert message.count(str(file)) == 2  # the new file and the last complete one
    assert '2.0 MB' in message and '--resume' in message
    assert file.read_bytes() == before and names(tmp_path) == ['iter_2.pth', 'last_checkpoint']
    file = tmp_path / 'sub' / 'iter_4.pth'
    with pytest.raises(CheckpointError, match=shows(file, '--resume')) as caught:
        save_checkpoint({}, str(file))
    assert str(caught.value).count('.pth') == 1  # there is no earlier one


def test_another_failure_is_not_called_a_full_disk(tmp_path, monkeypatch, checkpoint_io):
    failing_disk(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match='Input/output error'):
        save_checkpoint({}, str(tmp_path / 'iter_2.pth'))
    assert names(tmp_path) == []


def test_mmengine_writes_checkpoints_atomically(tmp_path, checkpoint_io):
    """It still creates folders, and writes other files as before."""
    file = tmp_path / 'a' / 'iter_2.pth'
    save_checkpoint(dict(state_dict={}), str(file))
    assert read_checkpoint(file) == dict(state_dict={}) and names(file.parent) == ['iter_2.pth']
    get_file_backend(str(tmp_path)).put(b'x', tmp_path / 'b' / 'c.json')
    assert (tmp_path / 'b' / 'c.json').read_bytes() == b'x'


def test_stale_temporary_files_are_removed(tmp_path):
    left = ['.iter_2.pth.7.unfinished', '.last_checkpoint.7.unfinished']
    for name in [*left, 'iter_2.pth', '.hidden']:
        (tmp_path / name).touch()
    assert remove_stale_tmp(tmp_path) == left
    assert names(tmp_path) == ['.hidden', 'iter_2.pth']


@pytest.mark.parametrize('moment', ['from_cfg', 'train'])
def test_a_log_that_finds_no_space(project_root, image_folder, tmp_path, monkeypatch, moment):
    def full(*args):
        raise OSError(errno.ENOSPC, 'No space left on device', 'scalars.json')

    monkeypatch.setattr(Runner, moment, full)
    monkeypatch.setattr(
        sys,
        'argv',
        [
            'tools/train.py',
            'configs/demo/masked_finola_b.py',
            '--work-dir',
            str(tmp_path),
            '--no-validate',
            '--cfg-options',
            *tiny_options(image_folder),
        ],
    )
    with pytest.raises(SystemExit) as caught:
        runpy.run_path('tools/train.py', run_name='__main__')
    assert re.match(shows('scalars.json', '--resume') + 'train: ', caught.value.code)
