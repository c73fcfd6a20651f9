"""Which checkpoint a run resumes from: the newest undamaged one."""

import errno
import os
import random
import re

import pytest
import torch

from finola_mm.engine import (
    CheckpointError,
    check_resumable,
    find_checkpoint,
    find_latest_valid_checkpoint,
    find_resume_point,
)
from finola_mm.engine.checkpoints import resume_point
from finola_mm.engine.checkpoints.resume_point import newest_first
from finola_mm.errors import UserError
from tests.conftest import tiny_options
from tests.forks import run_script
from tests.messages import shows

CONTENT = dict(
    meta=dict(iter=6), message_hub={}, optimizer={}, state_dict=dict(w=torch.arange(1000.0))
)


@pytest.fixture
def folder(tmp_path):
    """Checkpoints after 2, 4 and 6 iterations, a minute apart."""
    for i, name in enumerate(['iter_2.pth', 'iter_4.pth', 'iter_6.pth']):
        write(tmp_path / name, minute=i, iterations=2 * i + 2)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_6.pth'))
    torch.save({}, tmp_path / 'encoder.pth')  # not a training checkpoint
    return tmp_path


def write(file, *, minute, iterations=6):
    torch.save({**CONTENT, 'meta': dict(iter=iterations)}, file)
    os.utime(file, (1e9 + 60 * minute,) * 2)


def order(folder):
    return [path.name for path in newest_first(folder)]


def test_the_newest(folder):
    assert find_latest_valid_checkpoint(folder) == (str(folder / 'iter_6.pth'), [])


def test_the_value_of_resume(folder, tmp_path):
    """``--resume`` and the entries ``resume`` and ``load_from`` of a config."""
    named, latest = str(folder / 'iter_2.pth'), (str(folder / 'iter_6.pth'), [])
    assert find_resume_point(None, named, folder) is None
    assert find_resume_point(False, named, folder) is None
    for resume, load_from in [('auto', named), (True, None), (True, 'auto'), (str(folder), None)]:
        assert find_resume_point(resume, load_from, folder) == latest
    assert find_resume_point(True, named, folder) == (named, [])
    assert find_resume_point(named, 'no.pth', 'no') == (named, [])
    assert find_resume_point('auto', None, tmp_path / 'empty') is None
    cut(folder / 'iter_6.pth')  # a named file is not replaced by an older one
    for path in ('iter_6.pth', 'encoder.pth', 'no.pth'):
        with pytest.raises(CheckpointError, match=shows(folder / path)):
            find_resume_point(str(folder / path), None, folder)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(CheckpointError, match=shows(tmp_path / 'empty', '.pth')):
        find_resume_point(str(tmp_path / 'empty'), None, folder)
    with pytest.raises(CheckpointError, match=r'https://example.org/w\.pth'):
        find_resume_point('https://example.org/w.pth', None, folder)


def test_nothing_there(tmp_path):
    assert (
        find_latest_valid_checkpoint(tmp_path) is None
        and find_latest_valid_checkpoint(tmp_path / 'no') is None
    )


def test_the_named_checkpoint_is_missing(tmp_path):
    """A run must not start again because a disk is not mounted."""
    (tmp_path / 'last_checkpoint').write_text('elsewhere/iter_6.pth')
    with pytest.raises(CheckpointError, match=shows(tmp_path, '.pth')):
        find_latest_valid_checkpoint(tmp_path)


def test_the_named_checkpoint_is_missing_but_there_are_others(folder):
    """An older checkpoint is resumed, and the log reports the missing one."""
    (folder / 'last_checkpoint').write_text('elsewhere/iter_8.pth')
    point = find_latest_valid_checkpoint(folder)
    assert point is not None and point.path == str(folder / 'iter_6.pth')
    assert [re.search(r'\S+iter_8\.pth', line)[0] for line in point.skipped] == [
        'elsewhere/iter_8.pth'
    ]


def test_killed_before_last_checkpoint_was_written(folder):
    (folder / 'last_checkpoint').write_text(str(folder / 'iter_4.pth'))
    assert order(folder) == ['iter_6.pth', 'iter_4.pth', 'iter_2.pth']
    (folder / 'last_checkpoint').unlink()
    assert order(folder) == ['iter_6.pth', 'iter_4.pth', 'iter_2.pth']
    (folder / 'last_checkpoint').write_text('')  # truncated by MMEngine
    assert order(folder) == ['iter_6.pth', 'iter_4.pth', 'iter_2.pth']


def test_a_run_resumed_from_an_old_checkpoint(folder):
    """It was resumed from iter_2 and wrote iter_3; iter_6 belongs to the abandoned branch."""
    write(folder / 'iter_3.pth', minute=9, iterations=3)
    (folder / 'last_checkpoint').write_text(str(folder / 'iter_3.pth'))
    assert order(folder)[0] == 'iter_3.pth'
    assert not find_latest_valid_checkpoint(folder).skipped


def test_a_copy_whose_times_are_mixed_up(folder):
    os.utime(folder / 'iter_2.pth', (2e9, 2e9))
    assert order(folder)[0] == 'iter_6.pth'


@pytest.mark.parametrize('damaged', [False, True])
def test_a_later_iteration_in_an_older_file_is_reported(folder, damaged):
    """In a copied folder without ``last_checkpoint``, or whose newest file is damaged."""
    if damaged:
        write(folder / 'iter_8.pth', minute=9, iterations=8)
        (folder / 'last_checkpoint').write_text('iter_8.pth')
        cut(folder / 'iter_8.pth')
    else:
        (folder / 'last_checkpoint').unlink()
    write(folder / 'iter_4.pth', minute=8, iterations=4)
    write(folder / 'epoch_9.pth', minute=0, iterations=2)  # its number is not comparable
    path, (*skipped, line) = find_latest_valid_checkpoint(folder)
    assert path == str(folder / 'iter_4.pth') and len(skipped) == damaged
    assert re.match(shows(folder / 'iter_6.pth', 'iter_4.pth', '--resume FILE'), line)


def test_a_moved_or_copied_folder(folder, tmp_path):
    """Its own file is resumed, even if the original folder still exists."""
    (folder / 'last_checkpoint').write_text('elsewhere/iter_6.pth')
    assert order(folder)[0] == 'iter_6.pth'
    (tmp_path / 'old').mkdir()
    write(tmp_path / 'old' / 'iter_6.pth', minute=2)
    (folder / 'last_checkpoint').write_text(str(tmp_path / 'old' / 'iter_6.pth'))
    own = str(folder / 'iter_6.pth')
    assert find_latest_valid_checkpoint(folder).path == find_checkpoint(str(folder)) == own
    (folder / 'iter_6.pth').unlink()
    old = str(tmp_path / 'old' / 'iter_6.pth')
    assert find_latest_valid_checkpoint(folder).path == find_checkpoint(str(folder)) == old


def test_within_an_epoch_and_at_its_end(folder):
    write(folder / 'epoch_2.pth', minute=9, iterations=7)
    assert order(folder)[0] == 'epoch_2.pth'


def test_an_interrupted_run(folder):
    """Its file is first the newest, and later older than regular checkpoints."""
    write(folder / 'interrupted.pth', minute=9, iterations=7)
    assert order(folder) == ['interrupted.pth', 'iter_6.pth', 'iter_4.pth', 'iter_2.pth']
    (folder / 'last_checkpoint').write_text(str(folder / 'interrupted.pth'))
    assert order(folder)[0] == 'interrupted.pth'
    write(folder / 'iter_8.pth', minute=10, iterations=8)
    assert order(folder)[:2] == ['iter_8.pth', 'interrupted.pth']


def test_copied_files_with_misleading_times(folder):
    """Only the content of the files tells which one is of a later iteration."""
    write(folder / 'interrupted.pth', minute=9, iterations=3)
    assert order(folder)[0] == 'iter_6.pth'
    cut(folder / 'interrupted.pth')  # its iteration is unknown
    os.utime(folder / 'interrupted.pth', (2e9, 2e9))
    path, (line,) = find_latest_valid_checkpoint(folder)
    assert path == str(folder / 'iter_6.pth') and 'interrupted.pth' in line


def cut(file):
    file.write_bytes(file.read_bytes()[:-500])


def flip(file):
    """Flip one bit in the weights, which torch does not detect."""
    content = bytearray(file.read_bytes())
    content[content.index(CONTENT['state_dict']['w'].numpy().tobytes()) + 2000] ^= 1
    file.write_bytes(content)
    torch.load(file)


@pytest.mark.parametrize(
    ('harm', 'said'),
    [
        (cut, ('{size}',)),
        (flip, ('{size}', 'iter_6/data/')),  # size and part of the archive
        (lambda file: file.write_bytes(b''), ('torch.save',)),
        (lambda file: file.write_text('<html>'), ('torch.save', '<html>')),
        (lambda file: torch.save([1], file), ('list', 'state_dict')),
        (
            lambda file: torch.save(dict(state_dict={}, meta={}), file),
            ('message_hub, optimizer', 'load_from'),
        ),
        (lambda file: (file.unlink(), file.mkdir()), ()),
    ],
)
def test_a_damaged_checkpoint_is_skipped_and_reported(folder, harm, said):
    harm(folder / 'iter_6.pth')
    path, skipped = find_latest_valid_checkpoint(folder)
    assert path == str(folder / 'iter_4.pth')
    if said:
        (line,) = skipped
        size = (folder / 'iter_6.pth').stat().st_size
        assert 'iter_6.pth' in line and '\n' not in line
        assert all(value.format(size=size) in line for value in said)
        with pytest.raises(CheckpointError, match=re.escape(line)):
            check_resumable(folder / 'iter_6.pth')


@pytest.mark.parametrize('name', ['iter_6.pth', 'interrupted.pth'])
def test_a_storage_error_stops_the_start(folder, monkeypatch, name):
    """The file may be valid, and other ranks may have read it."""
    write(folder / 'interrupted.pth', minute=9, iterations=3)
    read = resume_point.read_checkpoint

    def stale(file):
        if file.name == name:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return read(file)

    monkeypatch.setattr(resume_point, 'read_checkpoint', stale)
    with pytest.raises(UserError, match=shows(folder / name, 'Stale', '--resume')) as caught:
        find_latest_valid_checkpoint(folder)
    assert '\n' not in str(caught.value)
    assert not isinstance(caught.value, CheckpointError)


@pytest.mark.filterwarnings('ignore')  # of torch, about foreign pickles
def test_any_bit_changed(tmp_path):
    """Either the content is unchanged, or the file is refused."""
    file, rng, refused = tmp_path / 'iter_6.pth', random.Random(0), 0
    torch.save({**CONTENT, 'state_dict': dict(w=torch.arange(50.0), v=torch.ones(3))}, file)
    whole = file.read_bytes()
    for bit in rng.sample(range(8 * len(whole)), 400):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)
        try:
            check_resumable(file)
        except CheckpointError as error:
            assert str(file) in str(error) and '\n' not in str(error)
            refused += 1
        else:
            state = torch.load(file)['state_dict']
            assert torch.equal(state['w'], torch.arange(50.0)) and state['v'].tolist() == [1, 1, 1]
    assert refused > 100


def test_several_or_all_damaged(folder):
    for name in ('iter_6.pth', 'iter_4.pth'):
        cut(folder / name)
    path, skipped = find_latest_valid_checkpoint(folder)
    assert path == str(folder / 'iter_2.pth') and len(skipped) == 2
    cut(folder / 'iter_2.pth')
    with pytest.raises(CheckpointError) as caught:
        find_latest_valid_checkpoint(folder)
    message = str(caught.value)
    assert '\n' not in message
    assert all(str(folder / f'iter_{i}.pth') in message for i in (2, 4, 6))


def test_the_tool_resumes_and_logs_skipped_checkpoints(project_root, image_folder, tmp_path):
    command = [
        'tools/train.py',
        'configs/demo/masked_finola_b.py',
        '--work-dir',
        tmp_path,
        '--no-validate',
        '--cfg-options',
        *tiny_options(image_folder),
        'default_hooks.checkpoint.interval=1',
    ]
    run_script(*command)
    whole = torch.load(tmp_path / 'iter_2.pth', weights_only=False)['state_dict']
    cut(tmp_path / 'iter_2.pth')
    out = run_script(*command, '--resume')
    said = shows('WARNING', tmp_path / 'iter_1.pth', tmp_path / 'iter_2.pth')
    assert sum(bool(re.match(said, line)) for line in out.splitlines()) == 1
    again = torch.load(tmp_path / 'iter_2.pth', weights_only=False)['state_dict']
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())


def test_checkpoint_of_a_work_directory(tmp_path):
    (tmp_path / 'iter_2.pth').touch()
    with pytest.raises(CheckpointError, match=shows(tmp_path / 'iter_2.pth')):
        find_checkpoint(str(tmp_path))
    (tmp_path / 'last_checkpoint').write_text('/moved/away/iter_2.pth')
    assert find_checkpoint(str(tmp_path)) == str(tmp_path / 'iter_2.pth')
    (tmp_path / 'last_checkpoint').write_bytes(b'\0\xff')  # after a power cut
    with pytest.raises(CheckpointError, match=shows(tmp_path / 'iter_2.pth')):
        find_checkpoint(str(tmp_path))


def test_no_checkpoint_at_all(tmp_path):
    with pytest.raises(CheckpointError, match=shows(tmp_path / 'epoch_1.pth', '.safetensors')):
        find_checkpoint(str(tmp_path / 'epoch_1.pth'))
    with pytest.raises(CheckpointError, match=r'nowhere\b(?!/)'):
        find_checkpoint(str(tmp_path / 'nowhere' / 'epoch_1.pth'))


def test_home_folder(tmp_path, monkeypatch):
    """A shell expands ~, Python does not."""
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'run').mkdir()
    for name in ('encoder.pth', 'run/iter_2.pth'):
        (tmp_path / name).touch()
    (tmp_path / 'run/last_checkpoint').write_text('iter_2.pth')
    assert find_checkpoint('~/encoder.pth') == str(tmp_path / 'encoder.pth')
    assert find_checkpoint('~/run') == str(tmp_path / 'run/iter_2.pth')
