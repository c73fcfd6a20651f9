"""The command finola: names, help, messages and exit status; test_wheel.py runs every command."""

import subprocess
import sys

import pytest
from mmengine.config import Config

import finola_cli
from tests.configs.test_classification_configs import without_scope
from tests.conftest import ROOT
from tests.messages import shows


@pytest.fixture
def finola(monkeypatch):
    """Run a command in this process, as the console script does."""

    def run(*words):
        monkeypatch.setattr(sys, 'argv', ['finola', *words])
        monkeypatch.setitem(sys.modules, '__main__', sys.modules['__main__'])  # restored afterwards
        finola_cli.main()

    return run


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Replace the tool of `finola knn` by a script."""

    def write(code):
        path = tmp_path / finola_cli.COMMANDS['knn'][0]
        path.parent.mkdir()
        path.write_text(code)
        monkeypatch.setattr(finola_cli, 'TOOLS', tmp_path)
        return path

    return write


def test_every_tool_is_a_command():
    tools = ROOT / 'tools'
    files = [file for file in tools.rglob('*') if file.suffix in ('.py', '.sh')]
    names = {file.relative_to(tools).as_posix() for file in files}
    assert names - {'launch.py', 'slurm_batch.sh'} == {*finola_cli.BY_FILE}


def test_help_lists_all_commands_without_slow_imports():
    code = 'import finola_cli, sys; finola_cli.main(); print(*sys.modules, file=sys.stderr)'
    done = subprocess.run(
        [sys.executable, '-c', code, '--help'], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {*finola_cli.COMMANDS} <= {line[2:20].strip() for line in done.stdout.splitlines()}
    assert not {'finola_mm', 'mmengine', 'numpy', 'torch', 'rich'} & {*done.stderr.split()}


@pytest.mark.parametrize(
    'words, given, meant',
    [
        (['trian', 'a.py'], 'trian', 'train'),
        (['check', 'evn', '--x'], 'check evn', 'check env'),
        (['data', 'shape'], 'data shape', 'data shapes'),
    ],
)
def test_a_mistyped_command(finola, words, given, meant):
    with pytest.raises(SystemExit, match=shows(repr(given), f'finola {meant}?', '--help')):
        finola(*words)


def test_commands_of_two_words(finola, capsys):
    finola('check')
    shown = capsys.readouterr().out
    assert [name in shown for name in ('check env', 'check coco', 'data shapes')] == [1, 1, 0]


def test_a_tool_runs_as_a_script(finola, tool, capsys):
    path = tool(
        'import argparse, sys\n'
        'assert __name__ == "__main__" and vars(sys.modules["__main__"]) is globals()\n'
        'parser = argparse.ArgumentParser()\n'
        'parser.add_argument("n", type=int)\n'
        'print(__file__, parser.parse_args().n)\n'
    )
    finola('knn', '3')
    assert capsys.readouterr().out.split() == [str(path), '3']
    with pytest.raises(SystemExit) as caught:
        finola('knn', 'x')
    assert caught.value.code == 2 and 'usage: finola knn ' in capsys.readouterr().err


@pytest.mark.parametrize(
    'statement, status', [('sys.exit(75)', 75), ('raise KeyboardInterrupt', 130)]
)
def test_exit_status(finola, tool, statement, status):
    tool(f'import sys\n{statement}\n')
    with pytest.raises(SystemExit) as caught:
        finola('knn')
    assert caught.value.code == status


def test_messages_name_commands(finola, tool):
    tool(
        'raise SystemExit("knn: run python tools/dataset_converters/make_shapes.py --out a, '
        'tools/train.py or tools/launch.py")'
    )
    with pytest.raises(SystemExit) as caught:
        finola('knn')
    assert caught.value.code == (
        'finola knn: run finola data shapes --out a, finola train or tools/launch.py'
    )


def test_a_shell_script_gets_this_interpreter(tmp_path, monkeypatch):
    file = tmp_path / finola_cli.COMMANDS['dist_train'][0]
    file.write_text('#!/bin/sh\necho "$PYTHON" "$@"\nexit 3\n')
    file.chmod(0o755)
    code = f'import finola_cli, pathlib; finola_cli.TOOLS = pathlib.Path({str(tmp_path)!r})'
    command = [sys.executable, '-c', f'{code}; finola_cli.main()', 'dist_train', 'a.py', '8']
    monkeypatch.delenv('PYTHON', raising=False)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (3, [sys.executable, 'a.py', '8'])


def test_list_of_configs(finola, capsys):
    finola('configs', 'low*1pct_w720')
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        f'classification/low_shot/{name}_1pct_w720' for name in ('lin', 'tran1_ft')
    ]
    assert lines[0].endswith("1 % of ImageNet's labels, encoder Mobile-Former W720")
    finola('configs')
    names = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    models = Config.fromfile(ROOT / 'configs/metafile.yml').Models
    assert {model.Name for model in models} <= names
    with pytest.raises(SystemExit, match=shows('nowhere')):
        finola('configs', 'nowhere')


@pytest.mark.parametrize(
    'name', ['det/own_data', 'selfsup/any/resnet18', 'classification/low_shot/lin_1pct']
)
def test_a_copied_config_reads_as_the_original(finola, tmp_path, name):
    finola('configs', '--copy', name, str(tmp_path / 'own.py'))
    copy, original = (
        Config.fromfile(file).to_dict()
        for file in (tmp_path / 'own.py', f'{ROOT}/configs/{name}.py')
    )
    assert without_scope(copy) == without_scope(original)


def test_configs_are_not_copied_over_files(finola, tmp_path):
    (tmp_path / 'a.py').touch()
    with pytest.raises(SystemExit, match=shows(tmp_path / 'a.py')):
        finola('configs', '--copy', 'det/own_data', str(tmp_path / 'a.py'))
    with pytest.raises(SystemExit, match=shows('det/own_dat', 'det/own_data')):
        finola('configs', '--copy', 'det/own_dat', str(tmp_path / 'b.py'))
