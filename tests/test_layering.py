"""Imports run downward only, and each side works where the other host package is missing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'finola_mm'

# folder -> the siblings that it may import, and the packages from outside (docs/architecture.md)
OUTSIDE = {'registry', 'errors', 'environment', '__version__'}
BELOW = {'functional', 'layers'} | OUTSIDE
PACKAGES = {'torch', 'mmengine', 'mmcv', 'numpy', 'PIL', 'cv2', 'skimage', 'safetensors'}
OPTIONAL = {'huggingface_hub', 'supervision', 'timm'}
RUNTIMES = {'onnx', 'onnxruntime', 'openvino', 'ncnn', 'pnnx', 'coremltools'}
PARTS = ('backbones', 'necks', 'heads', 'engine', 'datasets', 'evaluation')
SIDEWAYS = {'evaluation': {'datasets', 'engine'}}
FLOORS = {
    'functional': (set(), {'torch'}),
    'layers': ({'functional'}, {'torch'}),
    **{name: (BELOW | SIDEWAYS.get(name, set()), PACKAGES) for name in PARTS},
    'datasets': (BELOW, PACKAGES | {'mmpretrain'}),  # mmpretrain: datasets/image_folder.py alone
    'selfsup': (BELOW | {'datasets'}, {'torch', 'mmengine', 'mmpretrain'}),
    'classification': (BELOW | {'datasets'}, {'torch', 'numpy', 'mmengine', 'mmpretrain'}),
    'det': (BELOW, {'torch', 'numpy', 'scipy', 'mmengine', 'mmdet', 'faster_coco_eval'}),
    # mmdet: apis/detection.py and trainee.py; mmpretrain: apis/trainee.py; OPTIONAL: in functions
    'apis': (
        BELOW | {*PARTS, 'selfsup'},
        PACKAGES | {'mmdet', 'mmpretrain', 'rich'} | OPTIONAL | RUNTIMES,
    ),
}
LIBRARY = set(sys.stdlib_module_names)


def imports(file: Path):
    """(sibling packages, outside packages) that a file imports anywhere."""
    siblings, outside = set(), set()
    depth = len(file.relative_to(PACKAGE).parts)  # so many dots are finola_mm
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            outside |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                outside.add(node.module.split('.')[0])
            elif node.level == depth:
                names = [node.module] if node.module else [alias.name for alias in node.names]
                siblings |= {name.split('.')[0] for name in names}
            else:
                assert node.level < depth, f'{file}: reaches above the package'
    return siblings, outside - LIBRARY


@pytest.mark.parametrize('folder', sorted(p.parent.name for p in PACKAGE.glob('*/__init__.py')))
def test_floors(folder):
    assert folder in FLOORS, f'say in FLOORS and docs/architecture.md where {folder}/ stands'
    allowed_siblings, allowed_outside = FLOORS[folder]
    for file in (PACKAGE / folder).glob('**/*.py'):
        siblings, outside = imports(file)
        assert siblings <= allowed_siblings, file
        assert outside <= allowed_outside, file


BLOCK = """
import sys
class Block:
    def __init__(self, *names):
        self.names = names
    def find_spec(self, name, path=None, target=None):
        if any(name == n or name.startswith(n + '.') for n in self.names):
            raise ModuleNotFoundError(f'{name} is blocked', name=name)
"""


def run_python(code: str) -> None:
    """Run code in a process of its own."""
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def run_blocked(code: str, *blocked: str) -> None:
    """Run code in a process in which importing any of ``blocked`` fails."""
    run_python(f'{BLOCK}sys.meta_path.insert(0, Block(*{blocked!r}))\n{code}')


def run_each_blocked(common: str, *cases: tuple[str, tuple[str, ...]]) -> None:
    """``run_blocked`` for each (code, blocked), in forks of a process that has run ``common``.

    Nothing of what is blocked may be imported there.
    """
    run_python(f"""{BLOCK}
import os
{common}
for code, blocked in {cases!r}:
    assert not [n for n in sys.modules if n.split('.')[0] == 'finola_mm' or n in blocked]
    if os.fork() == 0:
        sys.meta_path.insert(0, Block(*blocked))
        exec(code)
        os._exit(0)  # without the half second of taking all down
    assert os.wait()[1] == 0, f'{{code}} without {{blocked}}'
""")


HOSTS = ('mmengine', 'mmcv', 'mmpretrain', 'mmdet')


def test_torch_alone_is_enough():
    run_blocked(
        'import finola_mm, finola_mm.functional, finola_mm.layers', *HOSTS, 'numpy', 'cv2', 'PIL'
    )


def test_parts_need_neither_mmpretrain_nor_mmdet():
    """Each package by itself, none after another one."""
    blocked = ('mmpretrain', 'mmdet', 'mmcv._ext')
    run_each_blocked(
        'import mmengine.runner', *((f'import finola_mm.{name}', blocked) for name in PARTS)
    )


BUILD = """
import {package}
from mmengine.config import Config
from mmengine.registry import init_default_scope
from {host}.registry import MODELS
init_default_scope({host!r})
MODELS.build(Config.fromfile({config!r}).model)
"""


@pytest.mark.slow
def test_each_side_builds_without_the_other(project_root):
    """Detection without mmpretrain; the rest without mmdet, and without mmcv's compiled part."""
    pretraining, classifier, detector = (
        BUILD.format(package=f'finola_mm.{package}', host=host, config=f'configs/{config}.py')
        for package, host, config in (
            ('selfsup', 'mmpretrain', 'selfsup/masked_finola_b_w720'),
            ('classification', 'mmpretrain', 'classification/tran1_ft_w720'),
            ('det', 'mmdet', 'demo/det_mf_dec211'),
        )
    )
    run_each_blocked(
        # What the host packages import of others takes most of the time.
        'import mmengine.runner, torchvision, matplotlib.pyplot, scipy.optimize, '
        'sklearn.gaussian_process, sklearn.mixture',
        (pretraining, ('mmdet',)),
        (pretraining, ('mmcv._ext',)),
        (pretraining, ('mmcv.ops',)),
        (classifier, ('mmdet', 'mmcv._ext', 'mmcv.ops')),
        (detector, ('mmpretrain',)),
    )
