"""An import is a declared dependency, or one line says what to install before the work starts."""

import ast
import re
import runpy
import subprocess
import sys
from pathlib import Path

from finola_mm.apis.command_line import OPTIONAL
from finola_mm.environment import build_mmcv
from finola_mm.functional.compat import EXPORTS_ONNX
from tests.conftest import ROOT
from tests.messages import shows

# Runs tools in one process that does not find some packages, as if they were not installed.
RUN = """
import runpy, sys, traceback
from importlib.machinery import PathFinder

find, blocked = PathFinder.find_spec, []
PathFinder.find_spec = lambda name, *args: (
    None if name.partition('.')[0] in blocked else find(name, *args)
)
for package, *command in eval(sys.argv[1]):
    blocked[:], sys.argv = [package], command
    try:
        runpy.run_path(command[0], run_name='__main__')
    except SystemExit as exit:
        print('END', exit.code, flush=True)
    except BaseException:
        print('END', repr(traceback.format_exc()), flush=True)
"""
DETECTOR = ['configs/demo/det_mf_dec211.py', 'none.pth']
DET_CONFIGS = ['demo/det_mf_dec211', 'det/dino_mf', 'det/retinanet_mf', 'study/det_mf_dec211']
# Before torch 2.6, nothing can be exported.
ONNX = ('onnx', 'onnxruntime', 'onnxscript') if EXPORTS_ONNX else ()
EXPORT = ['tools/deployment/export.py', *DETECTOR]
NAMES = {'scikit_image': 'skimage', 'pillow': 'PIL'}
OF_MMCV = 'cv2'  # mmcv requires opencv-python; a second build of it would overwrite the first


def test_one_line_names_what_to_install_before_the_work_starts(image_folder, tmp_path):
    data = [
        f'{split}_dataloader.{option}'
        for split in ('train', 'val')
        for option in (
            f'dataset.dataset.data_root={image_folder}',
            'batch_size=2',
            'num_workers=0',
            'persistent_workers=False',
        )
    ]
    finola = ['tools/train.py', 'configs/demo/finola.py', '--work-dir', str(tmp_path / 'finola')]
    commands = [
        *(['mmdet', 'tools/train.py', f'configs/{config}.py'] for config in DET_CONFIGS),
        ['mmdet', 'tools/test.py', *DETECTOR],
        ['mmdet', 'tools/check/coco.py', DETECTOR[0]],
        ['mmdet', 'tools/analysis/get_flops.py', DETECTOR[0]],
        ['mmdet', 'tools/visualization/detect.py', *DETECTOR, 'a.jpg', '--out', 'none'],
        ['mmdet', 'tools/visualization/attention.py', *DETECTOR, 'a.jpg', '--out', 'none.png'],
        *([name, *EXPORT, f'{tmp_path}/o.onnx'] for name in ONNX),
        ['skimage', *finola, '--cfg-options', *data],  # SSIM, in the first validation
    ]
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', RUN, repr(commands)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    ends = [line for line in result.stdout.splitlines() if line.startswith('END ')]
    for (package, tool, *_), end in zip(commands, ends, strict=True):
        assert re.search(shows(f'END {Path(tool).stem}: ', package, OPTIONAL[package]), end), end
    (log,) = (tmp_path / 'finola').glob('*/*.log')
    assert 'Iter(train)' not in log.read_text()


def test_detection_names_the_commands_that_compile_mmcv(tmp_path):
    """MMEngine's own message of a failed import does not name mmcv."""
    code = f"""
import runpy, sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *args: None if name == 'mmcv._ext' else find(name, *args)
sys.argv = ['tools/train.py', '{DETECTOR[0]}', '--work-dir', '{tmp_path}']
runpy.run_path(sys.argv[0], run_name='__main__')
"""
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 1
    assert re.search(shows('train: ', 'mmcv', *build_mmcv()), result.stderr.splitlines()[-1])


def imports(path):
    """(module, whether at the top level) of each import of another package in a file."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        top = node in tree.body
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition('.')[0], top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition('.')[0], top


def test_every_import_is_declared(monkeypatch):
    """Our tools import optional ones inside functions; the parts for mmdet and timm need them."""
    declared = {}
    monkeypatch.setattr('setuptools.setup', lambda **kwargs: declared.update(kwargs))
    runpy.run_path(str(ROOT / 'setup.py'))
    names = [
        re.split('[<>=]', name)[0].replace('-', '_')
        for name in declared['install_requires'] + declared['extras_require']['openmmlab']
        if not name.startswith('mmdet')  # of detection alone
    ]
    required = {NAMES.get(name, name) for name in names}
    own = {*sys.stdlib_module_names, *required, 'finola_mm', 'lpips', OF_MMCV}
    for path in [*ROOT.glob('finola_mm/**/*.py'), *ROOT.glob('tools/**/*.py')]:
        for module, top in imports(path):
            if module not in own:
                of_mmdet = path.parent.name == 'det' or path.name == 'detection.py'
                needs_it = of_mmdet or path.stem == module
                assert module in OPTIONAL and (needs_it or not top), (path, module)
