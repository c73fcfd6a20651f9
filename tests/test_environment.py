"""finola_mm/environment.py agrees with the import, setup.py and requirements.txt."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

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


def run_python(code, *paths, flags=(), **options):
    """Run ``code`` in the checkout, with ``paths`` first in the import path."""
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, paths)))
    return subprocess.run(
        [sys.executable, *flags, '-c', code],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        **options,
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


STACKS = ('onedl', 'openmmlab')


def of_stack(stack):
    """The distributions that its extra installs, by module."""
    known = [known for known in environment.DISTRIBUTIONS if known.stack == stack]
    return {entry.module: entry for entry in reversed(known)}


@pytest.mark.parametrize('stack', STACKS)
def test_tested_versions_are_supported(site, stack):
    for known in of_stack(stack).values():
        pretend(site, known.name, known.tested)
    assert environment.find_problems() == []
    assert environment.installed_stack() == stack


@pytest.mark.parametrize('row', environment.MATRIX, ids=lambda row: row.name)
def test_one_line_tells_whether_the_stack_is_in_the_tried_matrix(site, monkeypatch, row):
    monkeypatch.setattr(environment.platform, 'python_version', lambda: f'{row.python}.9')
    versions = dict(pin.split('==') for pin in row.pins)
    versions |= {known.name: known.tested for known in of_stack(row.stack).values()}
    for name, version in versions.items():
        pretend(site, name, version)
    line = environment.describe_stack()
    shown = [f'{name} {version}' for name, version in versions.items() if name != 'torchvision']
    assert re.search(shows(*shown, f'{row.python}.9', f'row {row.name}'), line)
    assert '\n' not in line and environment.find_problems() == []
    shutil.rmtree(site / f'torch-{versions["torch"]}.dist-info')
    pretend(site, 'torch', '2.5.0')
    assert not re.search(r'\brow\b', environment.describe_stack())


@pytest.mark.parametrize('version', ['2.0.1', '2.14.0', '2.14.0.dev20260101+cpu'])
@pytest.mark.parametrize(('stack', 'torch'), [('onedl', '2.11.0'), ('openmmlab', '2.1.2')])
def test_unsupported_torch(site, version, stack, torch):
    pretend(site, 'torch', version)
    pretend(site, of_stack(stack)['mmcv'].name, of_stack(stack)['mmcv'].tested)
    (problem,) = environment.find_problems()
    assert re.search(shows('torch', version, '>=2.1,<2.14'), problem.description)
    (command,) = problem.commands
    assert f' torch=={torch} ' in command


@pytest.mark.parametrize(
    'known', environment.DISTRIBUTIONS[1:], ids=[d.name for d in environment.DISTRIBUTIONS[1:]]
)
def test_unsupported_openmmlab_package(site, known):
    pretend(site, known.name, known.below)
    (problem,) = environment.find_problems()
    names = [d.name for d in environment.DISTRIBUTIONS if d.module == known.module and d.tested]
    assert re.search(shows(known.name, known.below, *names), problem.description)
    replacement = 'mmcv' if known.name == 'mmcv-full' else known.name
    tested = of_stack(known.stack)[known.module].tested
    assert problem.commands[-1].endswith(f' {replacement}=={tested}')


@pytest.mark.parametrize('stack', STACKS)
def test_two_distributions_over_the_same_files(site, stack):
    """The one of the stack to which the other packages belong is kept."""
    pretend(site, 'mmcv-lite', '2.1.0')
    assert environment.find_problems() == []
    pretend(site, 'onedl-mmcv', '2.3.6')
    for module in ('mmengine', 'mmpretrain'):
        pretend(site, of_stack(stack)[module].name, of_stack(stack)[module].tested)
    (problem,) = environment.find_problems()
    assert re.search(shows('mmcv-lite 2.1.0', 'onedl-mmcv 2.3.6'), problem.description)
    kept = of_stack(stack)['mmcv']
    uninstall = next(command for command in problem.commands if 'uninstall' in command)
    assert {'mmcv-lite', 'onedl-mmcv'} <= {*uninstall.split()}
    assert problem.commands[-1].endswith(f' {kept.name}=={kept.tested}')


def test_torchvision_of_another_torch(site):
    pretend(site, 'torch', '2.10.0+cpu')
    pretend(site, 'torchvision', '0.26.0', 'numpy', 'torch (==2.11.0)')
    (problem,) = environment.find_problems()
    assert re.search(shows('torchvision', '2.11.0', '2.10.0+cpu'), problem.description)


@pytest.mark.parametrize(('torch', 'fits'), [('2.2.2', False), ('2.3.0', True)])
def test_oldest_torch_of_the_maintained_stack(site, torch, fits):
    pretend(site, 'torch', torch)
    pretend(site, 'onedl-mmengine', '0.10.12')
    problems = environment.find_problems()
    assert (not problems) == fits
    for problem in problems:
        assert re.search(shows('onedl-mmengine 0.10.12', '2.3', torch), problem.description)
        assert ' torch==2.11.0 ' in problem.commands[0]


@pytest.mark.parametrize('torch', ['2.1.2', '2.2.2+cpu'])
def test_numpy_of_another_torch(site, torch):
    """pip installs numpy 2 beside a torch that was built for numpy 1."""
    pretend(site, 'torch', torch)
    pretend(site, 'numpy', '2.4.6')
    (problem,) = environment.find_problems()
    assert re.search(shows('torch', torch, 'numpy 1', '2.4.6'), problem.description)
    assert [command.split()[-1] for command in problem.commands] == [
        'numpy==1.26.4',
        'opencv-python-headless==4.11.0.86',
    ]


@pytest.mark.parametrize(('torch', 'numpy'), [('2.2.2', '1.26.4'), ('2.3.0', '2.0.0')])
def test_numpy_that_fits(site, torch, numpy):
    pretend(site, 'torch', torch)
    pretend(site, 'numpy', numpy)
    assert environment.find_problems() == []


@pytest.mark.parametrize('requirement', ['torch==2.11.0', 'torch (==2.11)', 'torch'])
def test_torchvision_that_fits(site, requirement):
    pretend(site, 'torch', '2.11.0+cu130')
    pretend(site, 'torchvision', '0.26.0+cu130', requirement)
    assert environment.find_problems() == []


def test_import_gives_the_same_message(tmp_path, monkeypatch):
    pretend(tmp_path, 'torch', '2.14.0')
    done = run_python('import finola_mm', tmp_path, flags=['-S'])  # without this environment
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
    requirements = [Requirement(line) for line in lines if line]
    return {
        found.name: str(found.specifier).removeprefix('==')
        for found in requirements
        if found.marker is None or found.marker.evaluate()
    }


def test_pins_are_the_tested_versions():
    tested = {known.name: known.tested for known in of_stack('onedl').values()}
    tested |= dict(pin.split('==') for pin in environment.MATRIX[0].pins)
    assert tested.items() <= read_pins().items()
    assert environment.DISTRIBUTIONS[0].tested == read_pins()['torch']
    opencv = environment.install_opencv(read_pins()['numpy']).split()[-1]
    assert opencv == f'opencv-python-headless=={read_pins()["opencv-python-headless"]}'


def test_rows_are_in_the_supported_ranges():
    torch = environment.DISTRIBUTIONS[0]
    release = environment.release
    for row in environment.MATRIX:
        pins = dict(pin.split('==') for pin in row.pins)
        assert release(torch.minimum) <= release(pins['torch']) < release(torch.below)
