"""The supported environment: one table behind the import, setup.py and the pins."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from finola_mm import environment
from tests.messages import shows

ROOT = Path(__file__).resolve().parents[1]


def pretend(site, name, version, *requires):
    """Put the metadata of a distribution into the folder ``site``."""
    info = site / f'{name.replace("-", "_")}-{version}.dist-info'
    info.mkdir(parents=True)
    lines = [
        'Metadata-Version: 2.1',
        f'Name: {name}',
        f'Version: {version}',
        *(f'Requires-Dist: {line}' for line in requires),
    ]
    (info / 'METADATA').write_text('\n'.join(lines) + '\n')


@pytest.fixture
def site(tmp_path, monkeypatch):
    """An otherwise empty place for installed distributions."""
    monkeypatch.setattr(sys, 'path', [str(tmp_path)])
    return tmp_path


def run_python(code, *paths, **options):
    """Run ``code`` in the checkout with ``paths`` before everything that is installed."""
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, paths)))
    return subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, env=env, capture_output=True, text=True, **options
    )


@pytest.mark.parametrize(
    'lower, higher',
    [
        ('2.9.1', '2.10'),
        ('2.11.0+cu130', '2.11.1'),
        ('2.13.9', '2.14.0.dev20260101'),
        ('0.9', '1'),
    ],
)
def test_release_orders_versions(lower, higher):
    assert environment.release(lower) < environment.release(higher)


def test_release_ignores_final_zeros_and_local_parts():
    assert environment.release('2.14.0+cpu') == environment.release('2.14')
    with pytest.raises(ValueError, match="'main'"):
        environment.release('main')


def test_nothing_installed_is_no_problem(site):
    assert environment.find_problems() == []


def test_the_versions_that_were_tried_are_supported(site):
    for host in environment.HOSTS:
        pretend(site, host.distribution, host.tried)
    assert environment.find_problems() == []


@pytest.mark.parametrize('version', ['2.3.1', '2.14.0', '2.14.0.dev20260101+cpu'])
def test_unsupported_torch(site, version):
    pretend(site, 'torch', version)
    (problem,) = environment.find_problems()
    assert re.search(shows('torch', version, '>=2.6,<2.14'), problem.what)
    assert problem.mend == ('python -m pip install torch==2.11.0 torchvision==0.26.0',)


@pytest.mark.parametrize('host', environment.HOSTS[1:], ids=lambda host: host.distribution)
def test_unsupported_host(site, host):
    pretend(site, host.distribution, host.below)
    (problem,) = environment.find_problems()
    assert re.search(shows(host.distribution, host.below), problem.what)
    assert problem.mend[-1].endswith(f'{host.distribution}=={host.tried}')


def test_retired_name_alone_and_beside_its_successor(site):
    pretend(site, 'mmcv-lite', '2.1.0')
    (problem,) = environment.find_problems()
    assert re.search(shows('mmcv-lite', '2.1.0', 'onedl-mmcv'), problem.what)
    assert problem.mend[0] == 'python -m pip uninstall -y mmcv-lite'
    pretend(site, 'onedl-mmcv', '2.3.6')
    (problem,) = environment.find_problems()
    assert problem.mend[0] == 'python -m pip uninstall -y mmcv-lite onedl-mmcv'


def test_torchvision_of_another_torch(site):
    pretend(site, 'torch', '2.10.0+cpu')
    pretend(site, 'torchvision', '0.26.0', 'numpy', 'torch (==2.11.0)')
    (problem,) = environment.find_problems()
    assert re.search(shows('torchvision', '2.11.0', '2.10.0+cpu'), problem.what)


@pytest.mark.parametrize('requirement', ['torch==2.11.0', 'torch (==2.11)', 'torch'])
def test_torchvision_that_fits(site, requirement):
    pretend(site, 'torch', '2.11.0+cu130')
    pretend(site, 'torchvision', '0.26.0+cu130', requirement)
    assert environment.find_problems() == []


def test_import_gives_the_same_message(tmp_path, monkeypatch):
    pretend(tmp_path, 'torch', '2.14.0')
    done = run_python('import finola_mm', tmp_path)
    monkeypatch.setattr(sys, 'path', [str(tmp_path)])
    (problem,) = environment.find_problems()
    assert done.returncode == 1
    assert str(problem) in done.stderr and 'ImportError' in done.stderr


def test_import_is_light_and_needs_no_mmengine():
    code = """
import sys
sys.modules['mmengine'] = None  # any import of it raises ModuleNotFoundError
import finola_mm
print(finola_mm.__version__, [name for name in sys.modules if name.split('.')[0] == 'torch'])
"""
    assert run_python(code, check=True).stdout.split(' ', 1)[1] == '[]\n'


def test_unknown_attribute():
    done = run_python('import finola_mm; finola_mm.no_such_thing')
    assert re.search(r'AttributeError: (?=.*finola_mm).*no_such_thing', done.stderr)


def test_configs_resolve_by_package_name(tmp_path):
    """Against the same file read by its path; MMEngine marks what came by name with its scope."""
    (tmp_path / 'own.py').write_text("_base_ = ['finola_mm::_base_/default_runtime.py']\n")
    code = f"""
import finola_mm, json
from mmengine.config import Config
for file in ({str(tmp_path / 'own.py')!r}, 'configs/_base_/default_runtime.py'):
    print(json.dumps(Config.fromfile(file, import_custom_modules=False).to_dict()))
"""
    by_name, by_path = map(json.loads, run_python(code, check=True).stdout.splitlines())
    assert by_name != by_path and without_scopes(by_name) == without_scopes(by_path)


def without_scopes(config):
    """The same nested ``config`` without the entries ``_scope_``."""
    if isinstance(config, list):
        return [without_scopes(entry) for entry in config]
    if isinstance(config, dict):
        return {key: without_scopes(value) for key, value in config.items() if key != '_scope_'}
    return config


def read_pins():
    text = (ROOT / 'requirements.txt').read_text()
    lines = (line.split('#')[0].strip() for line in text.splitlines())
    return dict(line.split('==') for line in lines if line)


def test_pins_are_the_versions_that_were_tried():
    pins = read_pins()
    assert {host.distribution: pins[host.distribution] for host in environment.HOSTS} == {
        host.distribution: host.tried for host in environment.HOSTS
    }


def test_commands_name_the_pins():
    commands = ' '.join([environment.TORCH_PAIR, *environment.BUILD_MMCV])
    named = dict(re.findall(r'([\w-]+)==([\w.]+)', commands))
    assert named.keys() == {'torch', 'torchvision', 'onedl-mmcv'}
    assert named.items() <= read_pins().items()


def test_wheel_carries_configs_tools_and_typing_and_leaves_the_tree_alone(tmp_path):
    tree = tmp_path / 'tree'  # setuptools builds in the tree
    shutil.copytree(
        ROOT,
        tree,
        symlinks=True,
        ignore=lambda folder, names: [
            name
            for name in names
            if folder == str(ROOT) and name in ('.git', '.venv', 'build', 'data', 'work_dirs')
        ],
    )
    before = {path: path.is_symlink() for path in tree.glob('finola_mm/.mim/*')}
    subprocess.run(
        [
            sys.executable,
            '-m',
            'pip',
            'wheel',
            '-q',
            '--no-deps',
            '--no-index',
            '--no-build-isolation',
            '-w',
            tmp_path,
            tree,
        ],
        check=True,
    )
    names = set(zipfile.ZipFile(next(tmp_path.glob('finola_mm-*.whl'))).namelist())
    configs = {f'finola_mm/.mim/{path.relative_to(ROOT)}' for path in ROOT.glob('configs/**/*.py')}
    assert configs and configs < names
    assert {
        'finola_mm/py.typed',
        'finola_mm/.mim/model-index.yml',
        'finola_mm/.mim/tools/check/env.py',
    } < names
    assert not [name for name in names if name.startswith('tests')]
    assert {path: path.is_symlink() for path in tree.glob('finola_mm/.mim/*')} == before
