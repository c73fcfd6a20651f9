"""The frame of the tools: which errors are one line, and with which exit status."""

import argparse
import csv
import errno
import os
import re

import pytest

from finola_mm.apis import check_out, command_line, int_range, make_folder, write_csv
from finola_mm.errors import BadDataError, CheckpointError, UserError
from tests.messages import shows

# of mmcv's pytorch_device_registry.hpp
NO_OPERATOR = RuntimeError('nms_impl: implementation for device cuda:0 not found.\n')
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'a.json')


def tool(error):
    @command_line
    def main(argv=None):
        raise error

    return main


@pytest.mark.parametrize(
    'error, values',
    [
        (UserError('7 must be 8'), ['7 must be 8']),
        (CheckpointError('no a.pth'), ['no a.pth']),
        (BadDataError('1.jpg'), ['1.jpg']),
        (FULL, ['a.json']),
        (NO_OPERATOR, ['nms_impl', 'FORCE_CUDA=1']),
    ],
)
def test_a_mistake_of_the_user_is_one_line(error, values):
    with pytest.raises(SystemExit, match=shows('test_command_line: ', *values)) as caught:
        tool(error)()
    assert '\n' not in caught.value.code  # Python prints it and exits with status 1


@pytest.mark.parametrize(
    'error',
    [
        ValueError('mine'),
        TypeError('mine'),
        RuntimeError('mine'),
        OSError(errno.EIO, 'mine'),
        KeyError('mine'),
    ],
)
def test_every_other_error_is_a_traceback(error):
    with pytest.raises(type(error), match='mine') as caught:
        tool(error)()
    assert caught.value is error


@pytest.mark.parametrize('error, status', [(KeyboardInterrupt(), 130), (SystemExit(3), 3)])
def test_exit_status(error, status):
    with pytest.raises(SystemExit) as caught:
        tool(error)()
    assert caught.value.code == status


def test_arguments_and_result_are_passed_on():
    assert command_line(lambda argv=None: argv)(['a']) == ['a']


@pytest.mark.parametrize('text, shown', [('0', 1), ('11', 10), ('x', 'int')])
def test_integers_of_a_range(text, shown, capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument('--n', type=int_range(1, 10))
    assert parser.parse_args(['--n', '10']).n == 10
    with pytest.raises(SystemExit):
        parser.parse_args(['--n', text])
    assert re.search(shows('--n', text, shown), capsys.readouterr().err.splitlines()[-1])


def test_output_files(tmp_path):
    file = tmp_path / 'new' / 'a.PNG'
    assert check_out(file, ('.png', '.jpg')) == file and file.parent.is_dir()
    with pytest.raises(UserError, match=shows('.png', '.jpg', 'a.txt')):
        check_out('a.txt', ('.png', '.jpg'))
    file.touch()
    check_out(file, ('.png',))
    with pytest.raises(UserError, match=shows(file)):
        check_out(file, ('.png',), overwrite=False)
    assert list(file.parent.iterdir()) == [file]  # the check leaves no file


def test_outputs_that_cannot_be_written(tmp_path):
    """A folder, a file as parent, a read-only file system (/proc, also for root), a long name."""
    (tmp_path / 'file').touch()
    for path in (tmp_path, tmp_path / 'file/b.png', '/proc/b.png', '/proc/a/b.png', 'a' * 300):
        with pytest.raises(UserError, match=shows(path)):
            check_out(path)
    for path in (tmp_path / 'file', tmp_path / 'file/b', '/proc', '/proc/a/b', 'a' * 300):
        with pytest.raises(UserError, match=shows(path)):
            make_folder(path)


def test_tables(tmp_path):
    write_csv(tmp_path / 'a.csv', [dict(a=1, b=2 / 3), dict(a='x', b=1e-9)])
    assert (tmp_path / 'a.csv').read_text() == 'a,b\n1,0.666667\nx,1e-09\n'
    write_csv(tmp_path / 'a.csv', [], ['a', 'b'])
    assert list(csv.reader((tmp_path / 'a.csv').open())) == [['a', 'b']]
