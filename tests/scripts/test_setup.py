"""scripts/setup.sh: completed, resumed, made anew, refused. Python, pip and uv are stand-ins."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INPUTS = ('requirements.txt', 'setup.py', 'finola_mm/environment.py', 'scripts/setup.sh')

# Installs nothing, records each call of pip and uv, and builds an empty wheel. Everything else is
# done by the Python that runs the tests, whose version is replaced.
STAND_IN = f"""#!/bin/sh
real() {{ {sys.executable} -I -S "$@"; }}
case "$*" in
    '-m pip config '*) [ -n "$PIP_INDEX_URL" ] && {sys.executable} "$@" ;;
    '-m venv '*) mkdir -p .venv/bin; touch .venv/pyvenv.cfg; cp "$0" .venv/bin/python ;;
    '-m pip '* | '-m uv '*)
        sleep "${{SECONDS_EACH:-0}}"
        echo "$* index=$UV_DEFAULT_INDEX" >>"$CALLS"
        case "$*" in *"${{FAIL:-nothing fails}}"*) exit 3 ;; esac
        folder=$(echo "$*" | sed -n 's/.*--wheel-dir \\([^ ]*\\).*/\\1/p')
        [ -z "$folder" ] || touch "$folder/mmcv.whl"
        ;;
    *'version("torch")'*) echo "${{TORCH:-2.11.0}}" ;;
    *mmcv._ext*) [ -z "$NO_OPS" ] ;;
    *_base_executable*) echo "$0" ;;
    '-c import ensurepip') [ -z "$BARE" ] ;;
    *'get_path("include")'*) [ -z "$BARE" ] && real "$@" || echo /nowhere ;;
    *) real -c "import sys; sys.version_info = (3, ${{MINOR:-11}}, 0); $2" ;;
esac
"""


class Checkout:
    """A folder with the inputs of the set-up, and the calls that its set-ups made."""

    def __init__(self, root: Path) -> None:
        self.root = root / 'checkout'
        for name in INPUTS:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.root / name)
        self.python = root / 'python'
        self.python.write_text(STAND_IN)
        self.python.chmod(0o755)
        self.env = dict(CALLS=str(root / 'calls'), XDG_CACHE_HOME=str(root / 'cache'))
        self.venv = self.root / '.venv'

    def start(self, **env: str) -> subprocess.Popen:
        env = {'PYTHON': str(self.python), **self.env, **env}
        return subprocess.Popen(
            ['sh', self.root / 'scripts' / 'setup.sh'],
            env=os.environ | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def set_up(self, status: int = 0, **env: str) -> str:
        """Run the script, check its exit status, and return its output."""
        process = self.start(**env)
        text, _ = process.communicate(timeout=60)
        assert process.returncode == status, text
        return text

    @property
    def calls(self) -> list[str]:
        path = Path(self.env['CALLS'])
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Checkout:
    for name in ('UV_DEFAULT_INDEX', 'FORCE_CUDA', 'CXX'):
        monkeypatch.delenv(name, raising=False)
    return Checkout(tmp_path)


def test_mmcv_is_compiled_after_its_build_requirements_and_a_second_run_is_a_no_op(checkout):
    checkout.set_up()
    uv, requirements, wheel, project = checkout.calls
    assert re.search('pip install.* uv==', uv) and 'uv pip install' in requirements
    assert re.search('pip wheel.* onedl-mmcv==', wheel) and '--editable' in project
    assert checkout.set_up() == '' and len(checkout.calls) == 4


def test_set_up_without_a_compiler_and_the_ops_later(checkout):
    bare = dict(OPS='0', CXX='no-such-compiler', NO_OPS='1')
    checkout.set_up(**bare)
    (wheel,) = (call for call in checkout.calls if 'pip wheel' in call)
    assert 'onedl-mmcv==' in wheel and '--no-build-isolation' not in wheel
    assert checkout.set_up(**bare) == ''
    checkout.set_up()
    assert '--no-build-isolation' in [call for call in checkout.calls if 'pip wheel' in call][-1]
    assert checkout.set_up(**bare) == '' == checkout.set_up()


@pytest.mark.parametrize('step', ['--requirement', 'pip wheel', '--editable'])
def test_interrupted_set_up_is_resumed_without_compiling_twice(checkout, step):
    checkout.set_up(status=3, FAIL=step)
    checkout.set_up()
    assert sum('pip wheel' in call for call in checkout.calls) == (2 if step == 'pip wheel' else 1)
    assert checkout.set_up() == ''


@pytest.mark.parametrize('change', ['requirements.txt', 'setup.py', 'python', 'path'])
def test_changed_inputs_make_a_new_venv(checkout, change):
    checkout.set_up()
    (checkout.venv / 'stale').touch()
    if change == 'path':
        checkout.root = checkout.root.rename(checkout.root.with_name('moved'))
        checkout.venv = checkout.root / '.venv'
    elif change != 'python':
        with (checkout.root / change).open('a') as file:
            file.write('# changed\n')
    minor = '12' if change == 'python' else '11'
    checkout.set_up(MINOR=minor)
    assert not (checkout.venv / 'stale').exists() and len(list(checkout.root.glob('.venv*'))) == 2
    assert checkout.set_up(MINOR=minor) == ''


def test_compiled_mmcv_is_kept_for_each_torch_python_and_ops(checkout):
    for env in ({}, {'TORCH': '2.12.0'}, {'MINOR': '12'}, {'FORCE_CUDA': '1'}, {}):
        shutil.rmtree(checkout.venv, ignore_errors=True)
        checkout.set_up(**env)
    assert sum('pip wheel' in call for call in checkout.calls) == 4


def test_mmcv_without_its_ops_is_not_kept(checkout):
    checkout.set_up(status=1, NO_OPS='1')
    assert not [*Path(checkout.env['XDG_CACHE_HOME']).rglob('*.whl')]
    checkout.set_up()


def test_one_set_up_at_a_time(checkout):
    first = checkout.start(SECONDS_EACH='0.2')
    second = checkout.start(SECONDS_EACH='0.2')
    for process in (first, second):
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert len(checkout.calls) == 4


def test_linked_or_foreign_venv_is_not_changed(checkout, tmp_path):
    other = Checkout(tmp_path / 'other')
    other.set_up()
    checkout.venv.symlink_to(other.venv)
    checkout.set_up()
    assert other.set_up() == '' and not checkout.venv.is_symlink()
    (checkout.venv / '.setup').unlink()
    before = sorted(checkout.venv.rglob('*'))
    assert str(checkout.venv) in checkout.set_up(status=1)
    assert sorted(checkout.venv.rglob('*')) == before


def test_index_of_pip_is_used_by_uv(checkout):
    checkout.set_up(PIP_INDEX_URL='https://mirror.invalid/simple')
    (requirements,) = (call for call in checkout.calls if '--requirement' in call)
    assert requirements.endswith('index=https://mirror.invalid/simple')


def test_bare_machine(checkout):
    text = checkout.set_up(status=1, BARE='1', CXX='no-such-compiler')
    assert text.splitlines()[-2] == '    apt-get install python3.11-venv python3.11-dev g++'
    assert 'PYTHON=' in checkout.set_up(status=1, MINOR='9')
    assert 'apt-get install' in checkout.set_up(status=1, PYTHON='no-such-python')
    assert not checkout.venv.exists() and not checkout.calls
