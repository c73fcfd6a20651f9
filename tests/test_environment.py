"""finola_mm/environment.py agrees with the import, setup.py and requirements.txt."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from finola_mm import environment
from tests.messages import shows

ROOT = Path(__file__).resolve().parents[1]


def pretend(site, name, version, *requires):
    """Write the metadata of a distribution to the folder ``site``."""
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
    """An empty folder as the only place of installed distributions."""
    monkeypatch.setattr(sys, 'path', [str(tmp_path)])
    return tmp_path


def run_python(code, *paths, **options):
    """Run ``code`` in the checkout, with ``paths`` first in the import path."""
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


def test_tested_versions_are_supported(site):
    for dependency in environment.DEPENDENCIES:
        pretend(site, dependency.distribution, dependency.tested)
    assert environment.find_problems() == []


@pytest.mark.parametrize('version', ['2.3.1', '2.14.0', '2.14.0.dev20260101+cpu'])
def test_unsupported_torch(site, version):
    pretend(site, 'torch', version)
    (problem,) = environment.find_problems()
    assert re.search(shows('torch', version, '>=2.6,<2.14'), problem.description)
    assert problem.commands == ('python -m pip install torch==2.11.0 torchvision==0.26.0',)


@pytest.mark.parametrize(
    'dependency', environment.DEPENDENCIES[1:], ids=lambda dependency: dependency.distribution
)
def test_unsupported_openmmlab_package(site, dependency):
    pretend(site, dependency.distribution, dependency.below)
    (problem,) = environment.find_problems()
    assert re.search(shows(dependency.distribution, dependency.below), problem.description)
    assert problem.commands[-1].endswith(f'{dependency.distribution}=={dependency.tested}')


def test_retired_name_alone_and_beside_its_successor(site):
    pretend(site, 'mmcv-lite', '2.1.0')
    (problem,) = environment.find_problems()
    assert re.search(shows('mmcv-lite', '2.1.0', 'onedl-mmcv'), problem.description)
    assert problem.commands[0] == 'python -m pip uninstall -y mmcv-lite'
    pretend(site, 'onedl-mmcv', '2.3.6')
    (problem,) = environment.find_problems()
    assert problem.commands[0] == 'python -m pip uninstall -y mmcv-lite onedl-mmcv'


def test_torchvision_of_another_torch(site):
    pretend(site, 'torch', '2.10.0+cpu')
    pretend(site, 'torchvision', '0.26.0', 'numpy', 'torch (==2.11.0)')
    (problem,) = environment.find_problems()
    assert re.search(shows('torchvision', '2.11.0', '2.10.0+cpu'), problem.description)


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
    """Compare with the same file read by path; MMEngine adds its scope to configs found by name."""
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
    """Remove the entries ``_scope_`` from the nested ``config``."""
    if isinstance(config, list):
        return [without_scopes(entry) for entry in config]
    if isinstance(config, dict):
        return {key: without_scopes(value) for key, value in config.items() if key != '_scope_'}
    return config


def read_pins():
    text = (ROOT / 'requirements.txt').read_text()
    lines = (line.split('#')[0].strip() for line in text.splitlines())
    return dict(line.split('==') for line in lines if line)


def test_pins_are_the_tested_versions():
    pins = read_pins()
    assert {
        dependency.distribution: pins[dependency.distribution]
        for dependency in environment.DEPENDENCIES
    } == {dependency.distribution: dependency.tested for dependency in environment.DEPENDENCIES}


def test_commands_name_the_pins():
    commands = ' '.join([environment.TORCH_PAIR, *environment.BUILD_MMCV])
    named = dict(re.findall(r'([\w-]+)==([\w.]+)', commands))
    assert named.keys() == {'torch', 'torchvision', 'onedl-mmcv'}
    assert named.items() <= read_pins().items()
