"""tools/check/env.py against stand-ins for installed packages that fail in known ways."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.messages import shows

SCRIPT = Path(__file__).resolve().parents[2] / 'tools' / 'check' / 'env.py'

STACK = {  # module: distribution, version
    'torch': ('torch', '2.11.0'),
    'torchvision': ('torchvision', '0.26.0'),
    'safetensors': ('safetensors', '0.8.0'),
    'skimage': ('scikit-image', '0.25.2'),
    'cv2': ('opencv-python-headless', '4.12.0.88'),
    'mmengine': ('onedl-mmengine', '0.10.12'),
    'mmcv': ('onedl-mmcv', '2.3.6'),
    'mmpretrain': ('onedl-mmpretrain', '1.3.6'),
    'mmdet': ('onedl-mmdetection', '3.5.1'),
    'tensorboard': ('tensorboard', '2.21.0'),
}
FILES = {
    'torch/__init__.py': 'class ops:\n    class torchvision:\n        nms = None\n',
    'torch/utils/__init__.py': '',
    'torch/utils/tensorboard.py': 'class SummaryWriter: pass\n',
    'safetensors/torch.py': '',
    'mmengine/runner.py': '',
    'mmcv/transforms.py': '',
    'mmcv/_ext.py': 'def get_compiling_cuda_version(): return "12.8"\n',
    'mmpretrain/models/__init__.py': '',
    'mmdet/models.py': '',
}


@pytest.fixture
def stack(tmp_path):
    """A stand-in for a working host stack."""
    for module, (name, version) in STACK.items():
        write(tmp_path, f'{module}/__init__.py', '')
        write_metadata(tmp_path, name, version)
    for path, text in FILES.items():
        write(tmp_path, path, text)
    return tmp_path


def write(root, path, text):
    """Write a file and the folders above it."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def write_metadata(root, name, version):
    """Make a distribution look installed."""
    write(
        root,
        f'{name.replace("-", "_")}-{version}.dist-info/METADATA',
        f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n',
    )


def check(installed):
    """Run tools/check/env.py with only the folder ``installed`` on the path."""
    python = installed / 'python'  # -S leaves out the packages that these tests run with
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    code = (
        f'import runpy, sys; sys.executable = {str(python)!r}; '
        f'runpy.run_path({str(SCRIPT)!r}, run_name="__main__")'
    )
    done = subprocess.run(
        [python, '-c', code],
        env=dict(os.environ, PYTHONPATH=str(installed)),
        capture_output=True,
        text=True,
    )
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def test_all_fine(stack):
    status, report = check(stack)
    assert status == 0
    assert 'Pre-training: ready' in report and 'Detection: ready' in report
    assert not problems(report)
    assert report.count(' ok\n') == 10


def test_missing_cuda_operators_are_no_problem(stack):
    path = 'mmcv/_ext.py'
    write(stack, path, FILES[path].replace('12.8', 'not available'))
    status, report = check(stack)
    assert status == 0 and 'Detection: ready' in report
    (note,) = problems(report)
    assert 'FORCE_CUDA=1 python -m pip install --no-build-isolation' in note


def test_empty_environment(tmp_path):
    status, report = check(tmp_path)
    assert status == 1
    told = [problem.split('\n')[0] for problem in problems(report)]
    for name, _ in STACK.values():
        assert name == 'torch' or any(name in what for what in told)
    assert 'python -m pip install torch==2.11.0 torchvision==0.26.0 numpy==2.2.6' in report
    assert 'python -m pip install onedl-mmdetection==3.5.1' in report


def test_no_compiled_ops_blocks_detection_only(stack):
    (stack / 'mmcv/_ext.py').unlink()
    status, report = check(stack)
    assert status == 1
    assert 'Pre-training: ready' in report and 'Detection: NOT ready' in report
    what, mend = problems(report)[0].split('\n', 1)
    assert 'mmcv' in what and 'isolation' in what and '--no-build-isolation' in mend


def test_ops_of_another_torch(stack, tmp_path_factory):
    """A real library refers to a symbol that no torch has."""
    (stack / 'mmcv/_ext.py').unlink()
    source = tmp_path_factory.mktemp('source') / 'ext.cpp'
    source.write_text(
        'namespace c10 { void gone(); }\nextern "C" void PyInit__ext() { c10::gone(); }\n'
    )
    target = stack / f'mmcv/_ext{sysconfig.get_config_var("EXT_SUFFIX")}'
    subprocess.run(
        [os.environ.get('CXX', 'g++'), '-shared', '-fPIC', source, '-o', target], check=True
    )
    status, report = check(stack)
    assert status == 1 and 'Detection: NOT ready' in report and 'Pre-training: ready' in report
    what, mend = problems(report)[0].split('\n', 1)
    assert 'mmcv' in what and 'torch' in what and 'isolation' not in what
    assert '--no-cache-dir' in mend


def test_what_follows_from_a_failure_is_not_told_again(stack):
    (stack / 'mmcv/_ext.py').unlink()
    write(stack, 'mmdet/models.py', 'import mmcv._ext\n')
    status, report = check(stack)
    assert report.count('FAILS') == 2 and len(problems(report)) == 1
    write(stack, 'cv2/__init__.py', 'raise ImportError("libGL.so.1: cannot open shared object")\n')
    write(stack, 'mmcv/__init__.py', 'import cv2\n')
    status, report = check(stack)
    assert report.count('FAILS') == 4 and len(problems(report)) == 1
    assert re.search('OpenCV(?!.*numpy)', problems(report)[0])
    shutil.rmtree(stack / 'mmcv')
    shutil.rmtree(stack / 'onedl_mmcv-2.3.6.dist-info')
    write(stack, 'cv2/__init__.py', '')
    write(stack, 'mmpretrain/models/__init__.py', 'import mmcv\n')
    status, report = check(stack)
    assert report.count('FAILS') == 4 and len(problems(report)) == 1
    assert 'onedl-mmcv' in problems(report)[0].split('\n')[0]


def problems(report):
    """Return the paragraphs after the table."""
    return report.strip().split('\n\n')[1:]


def test_unsupported_version_reads_like_the_import_error(stack):
    write_metadata(stack, 'mmcv', '2.1.0')  # over the files of onedl-mmcv
    shutil.rmtree(stack / 'torch-2.11.0.dist-info')
    write_metadata(stack, 'torch', '2.14.0')
    status, report = check(stack)
    done = subprocess.run(
        [sys.executable, '-S', '-c', 'import finola_mm'],
        cwd=SCRIPT.parents[2],
        env=dict(os.environ, PYTHONPATH=str(stack)),
        capture_output=True,
        text=True,
    )
    message = done.stderr.split('ImportError: ')[1].splitlines()[1:-1]
    assert status == 1 and 'Pre-training: NOT ready' in report and 'Detection: NOT ready' in report
    told = report.split('\n\n', 1)[1].replace('\n\n', '\n').strip()
    assert told.splitlines() == message
    assert re.search(shows('torch', '2.14.0', 'mmcv', '2.1.0'), told)


def test_the_command_reports_where_the_package_does_not_load(stack):
    write_metadata(stack, 'mmcv', '2.1.0')
    code = "import finola_cli, sys; sys.argv[1:] = ['check', 'env']; finola_cli.main()"
    done = subprocess.run(
        [sys.executable, '-S', '-c', code],
        cwd=SCRIPT.parents[2],
        env=dict(os.environ, PYTHONPATH=str(stack)),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, '')
    assert re.search(shows('mmcv', '2.1.0', 'onedl-mmcv', 'NOT ready'), done.stdout)


@pytest.mark.parametrize(
    'path, text, expected, command',
    [
        (
            'cv2/__init__.py',
            'raise ImportError("libGL.so.1: cannot open shared object file: '
            'No such file or directory")',
            'OpenCV(?!.*numpy)',
            'opencv-python-headless',
        ),
        (
            'torchvision/__init__.py',
            'raise RuntimeError("operator torchvision::nms does not exist")',
            'torchvision',
            '--force-reinstall',
        ),
        # the failing lines of transformers 5 and mmpretrain 1.3.6
        (
            'mmpretrain/models/multimodal/blip.py',
            'class BertPreTrainedModel(None): pass',
            'transformers',
            "'transformers>=4.53,<5'",
        ),
        ('mmengine/runner.py', 'import yapf', '^(?!.*Error).*yapf', 'onedl-mmengine==0.10.12'),
        (
            'mmdet/models.py',
            'raise AssertionError("MMCV is used but incompatible")',
            'AssertionError: MMCV is used but incompatible',
            'onedl-mmdetection==3.5.1',
        ),
        (
            'torch/utils/tensorboard.py',
            'import os; os._exit(139)',
            '^(?!.*Error).*tensorboard',
            'pip install tensorboard',
        ),
    ],
)
def test_known_failures(stack, path, text, expected, command):
    write(stack, path, text + '\n')
    write(stack, 'mmpretrain/models/multimodal/__init__.py', '')
    if 'multimodal' in path:
        write(stack, 'mmpretrain/models/__init__.py', 'from .multimodal import blip\n')
    status, report = check(stack)
    assert status == 1 and report.count('FAILS') == 1
    what, mend = problems(report)[0].split('\n', 1)
    assert re.search(expected, what) and command in mend


def test_the_environment_of_these_tests():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
