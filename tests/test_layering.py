"""Imports run downward only, and each side works where the other host package is missing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'finola_mm'

# folder -> the siblings that it may import, and the packages from outside (docs/architecture.md)
SIDEWAYS = {'registry'}
FLOOR_2 = ('backbones', 'necks', 'heads', 'engine', 'datasets', 'evaluation')
FLOORS = {
    'functional': (set(), {'torch'}),
    'layers': ({'functional'}, {'torch'}),
    **{
        name: (
            {'functional', 'layers'} | SIDEWAYS,
            {'torch', 'mmengine', 'mmcv', 'numpy', 'PIL', 'cv2', 'skimage', 'safetensors'},
        )
        for name in FLOOR_2
    },
    'selfsup': (
        {'functional', 'layers', *FLOOR_2} | SIDEWAYS,
        {'torch', 'mmengine', 'mmcv', 'mmpretrain'},
    ),
    'det': ({'functional', 'layers', 'engine'} | SIDEWAYS, {'torch', 'mmdet'}),
    'classification': ({'functional', 'layers'} | SIDEWAYS, {'torch', 'mmpretrain'}),
}
LIBRARY = set(sys.stdlib_module_names)


def imports(file: Path):
    """(sibling packages, outside packages) that a file imports anywhere."""
    siblings, outside = set(), set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            outside |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                outside.add(node.module.split('.')[0])
            elif node.level == 2:
                names = [node.module] if node.module else [alias.name for alias in node.names]
                siblings |= {name.split('.')[0] for name in names}
            else:
                assert node.level == 1, f'{file}: reaches above the package'
    return siblings, outside - LIBRARY


@pytest.mark.parametrize('folder', sorted(p.parent.name for p in PACKAGE.glob('*/__init__.py')))
def test_floors(folder):
    assert folder in FLOORS, f'say in FLOORS and docs/architecture.md where {folder}/ stands'
    allowed_siblings, allowed_outside = FLOORS[folder]
    for file in (PACKAGE / folder).glob('**/*.py'):
        siblings, outside = imports(file)
        assert siblings <= allowed_siblings, file
        assert outside <= allowed_outside, file


def run_blocked(code: str, *blocked: str) -> None:
    """Run code in a process in which importing any of ``blocked`` fails."""
    prelude = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if any(name == b or name.startswith(b + '.') for b in {blocked!r}):
            raise ModuleNotFoundError(f'{{name}} is blocked', name=name)
sys.meta_path.insert(0, Block())
"""
    result = subprocess.run([sys.executable, '-c', prelude + code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


HOSTS = ('mmengine', 'mmcv', 'mmpretrain', 'mmdet')


@pytest.mark.parametrize('module', ['finola_mm', 'finola_mm.functional', 'finola_mm.layers'])
def test_torch_alone_is_enough(module):
    run_blocked(f'import {module}', *HOSTS, 'numpy', 'cv2', 'PIL')


@pytest.mark.parametrize('folder', FLOOR_2)
def test_floor_2_needs_no_host_package(folder):
    run_blocked(f'import finola_mm.{folder}', 'mmpretrain', 'mmdet', 'mmcv._ext')


BUILD = """
import finola_mm.selfsup
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
init_default_scope('mmpretrain')
MODELS.build(Config.fromfile('configs/selfsup/masked_finola_b_w720.py').model)
"""


BUILD_DETECTOR = """
import finola_mm.det
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmdet.registry import MODELS
init_default_scope('mmdet')
MODELS.build(Config.fromfile('configs/demo/det_mf_dec211.py').model)
"""


def test_detection_builds_without_mmpretrain(project_root):
    run_blocked(BUILD_DETECTOR, 'mmpretrain')


@pytest.mark.parametrize('blocked', ['mmdet', 'mmcv._ext', 'mmcv.ops'])
def test_pretraining_builds_without(project_root, blocked):
    """Without mmdet; without mmcv's compiled part."""
    run_blocked(BUILD, blocked)
