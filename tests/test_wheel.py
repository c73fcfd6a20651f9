"""The wheel, installed elsewhere: configs by name, inferencers and commands, in an empty folder.

The environment contains the wheel, and finds all other packages where this one has them.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile

import pytest

from finola_cli import COMMANDS
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

BUILD = """
from setuptools import build_meta
for build in build_meta.build_sdist, build_meta.build_wheel:
    print(build('dist'))
"""
NOT_COPIED = shutil.ignore_patterns('.git', '.venv*', '.*_cache', 'build', 'data', 'work_dirs')

# Runs commands in forks of a process with the imports that take most of their time.
RUN = """
import gc, os, runpy, sys
import mmdet.apis, mmpretrain.apis, mmpretrain.models

assert not [name for name in sys.modules if name.startswith('finola_mm')]
gc.freeze()  # keeps collections from copying the memory shared by the forks
for command in eval(sys.argv[1]):
    print('$', *command, flush=True)
    if os.fork() == 0:
        sys.argv, sys.path[0] = command, os.path.dirname(os.path.abspath(command[0]))
        runpy.run_path(command[0], run_name='__main__')
        sys.exit()
    if status := os.waitstatus_to_exitcode(os.wait()[1]):
        sys.exit(f'exit status {status}')
"""


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """The sdist and the wheel, built in a copy of the checkout."""
    tree = tmp_path_factory.mktemp('build') / 'tree'
    shutil.copytree(ROOT, tree, symlinks=True, ignore=NOT_COPIED)
    links = {path: path.is_symlink() for path in tree.glob('finola_mm/.mim/*')}
    python(BUILD, cwd=tree)
    assert {path: path.is_symlink() for path in tree.glob('finola_mm/.mim/*')} == links
    (sdist,), (wheel,) = tree.glob('dist/*.tar.gz'), tree.glob('dist/*.whl')
    return sdist, wheel


@pytest.fixture(scope='module')
def installed(built, tmp_path_factory):
    """An empty folder, and the interpreter of the environment."""
    env = tmp_path_factory.mktemp('env')
    venv.create(env, with_pip=False)
    interpreter = env / 'bin/python'
    install = [sys.executable, '-m', 'pip', '--python', interpreter, 'install', '-q', '--no-deps']
    subprocess.run([*install, '--no-index', built[1]], check=True)
    (site,) = env.glob('lib/*/site-packages')
    # In a folder that a .pth file names, .pth files have no effect: not the one of the checkout.
    (site / 'others.pth').write_text(sysconfig.get_path('purelib') + '\n')
    return tmp_path_factory.mktemp('empty'), interpreter


def python(code, *args, cwd, interpreter=sys.executable, **environ):
    env = {key: value for key, value in os.environ.items() if not key.startswith(('PYTHON', 'FIN'))}
    command = [interpreter, '-W', 'ignore', '-c', code, *args]
    done = subprocess.run(command, cwd=cwd, env=env | environ, capture_output=True, text=True)
    assert done.returncode == 0, f'{done.stdout[-1000:]}\n{done.stderr[-5000:]}'
    return done.stdout


def test_content(built):
    sdist, wheel = built
    assert wheel.stat().st_size < sdist.stat().st_size < 10e6
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    mim = {name.removeprefix('finola_mm/.mim/') for name in names if '/.mim/' in name}
    for folder in ('configs', 'tools'):
        files = [
            path for path in ROOT.glob(f'{folder}/**/*') if path.suffix in ('.py', '.sh', '.yml')
        ]
        assert files and {str(path.relative_to(ROOT)) for path in files} <= mim
    small = [path for path in ROOT.glob('demo/*.safetensors') if path.stat().st_size < 5e6]
    weights = {name for name in mim if name.endswith('.safetensors')}
    assert weights == {f'demo/{path.name}' for path in small} and len(weights) == 3
    assert {'finola_mm/py.typed', 'finola_mm/.mim/model-index.yml'} < names
    assert not [name for name in names if name.startswith('tests')]
    with tarfile.open(sdist) as archive:
        content = {name.partition('/')[2] for name in archive.getnames()}
    assert {'setup.py', 'Makefile', *weights} < content


LOADER = 'loader = dict(batch_size=2, num_workers=0, persistent_workers=False)\n'
LOADERS = f'{LOADER}train_dataloader = loader\n'
VALIDATION = 'val_dataloader = loader\ntest_dataloader = loader\n'
TWO_STEPS = 'default_hooks = dict(checkpoint=dict(interval=2))\ntrain_cfg = dict(max_iters=2'
BARE = """
classes = 'ball cat donut fish heart house kite leaf moon mug star tree'.split()
train_pipeline = [
    dict(type='finola_mm.LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(96, 96), keep_ratio=False),
    dict(type='PackDetInputs'),
]
data = dict(data_root='data/shapes/coco', metainfo=dict(classes=classes), pipeline=train_pipeline)
train_dataloader = dict(**loader, dataset=dict(dataset=data))
train_cfg = dict(max_epochs=1)
model = dict(
    backbone=dict(arch='small'),
    neck=dict(in_channels=[96, 256]),
    bbox_head=dict(num_classes=12),
)
"""
# name -> (config of ours, the settings of a config of one's own that derives from it)
OWN = {
    'selfsup': ('demo/masked_finola_b', f'{LOADERS}{VALIDATION}{TWO_STEPS}, val_interval=2)'),
    'finola': ('demo/finola', f'{LOADERS}{VALIDATION}{TWO_STEPS}, val_interval=2)'),
    'mocov2': ('demo/mocov2', f'{LOADERS}{TWO_STEPS})\nmodel = dict(queue_len=4)'),
    'cls': ('demo/cls_supervised', f'{LOADERS}{VALIDATION}{TWO_STEPS}, val_interval=2)'),
    'det': ('demo/det_mf_dec211', f'{LOADERS}{VALIDATION}train_cfg = dict(max_epochs=1)'),
    'retinanet': ('det/retinanet_mf', LOADER + BARE),
}
SHAPES = '--train-images 12 --val-images 12 --train-scenes 4 --val-scenes 2 --size 64'
# mmpretrain's browse_dataset passes the scope of a config found by name on to its visualizer.
HOST = {'cls': "visualizer = dict(_delete_=True, type='UniversalVisualizer')\n"}
IMAGES, SCENES = 'data/shapes/imagenet', 'data/shapes/coco/val2017'
SCENE = f'{SCENES}/000001000001.jpg'


RECONSTRUCTION = 'photos/finola finola_photos'


def commands(finola):
    """Small runs of most of our commands, of mmpretrain's and mmdet's tools; the help of all."""
    ours = f"""
        check env
        configs --copy det/own_data own_data.py
        data shapes --out data/shapes {SHAPES}
        data resize {IMAGES} resized
        data low_shot {IMAGES}/train 50
        data crops --out photographs
        check images {IMAGES}
        check coco own_data.py
        train selfsup.py
        train finola.py
        train mocov2.py
        train cls.py --pretrained work_dirs/demo
        train det.py --pretrained masked_finola_b_shapes
        train retinanet.py --no-validate
        test selfsup.py work_dirs/demo
        test cls.py work_dirs/demo_supervised
        test det.py work_dirs/demo_detection --show-dir shown
        test {RECONSTRUCTION} --cfg-options test_dataloader.dataset.dataset.data_root={IMAGES}
        extract work_dirs/demo encoder.safetensors
        publish work_dirs/demo_supervised cls.pth
        knn selfsup.py encoder.safetensors --k 1
        flops finola_mm::demo/cls_supervised.py
        curvature {RECONSTRUCTION} {IMAGES}/val --out curvature
        wave_speeds {RECONSTRUCTION} --out waves
        reconstruct {RECONSTRUCTION} {IMAGES}/val --num 2
        detect demo/det_mf_dec211.py work_dirs/demo_detection {SCENES} --out found
        attention det.py work_dirs/demo_detection {SCENE} --out a.png
        dist_test cls.py work_dirs/demo_supervised 1
    """
    for line in ours.strip().splitlines():
        yield [str(finola), *line.split()]
    for line in """
        mmpretrain train.py host_cls.py --work-dir host
        mmpretrain visualization/browse_dataset.py host_cls.py --not-show --output-dir browse
        mmdet test.py host_det.py work_dirs/demo_detection/epoch_1.pth --work-dir host
        mmdet analysis_tools/browse_dataset.py host_det.py --not-show --output-dir browse_det
    """.strip().splitlines():
        package, tool, *args = line.split()
        yield [f'{sysconfig.get_path("purelib")}/{package}/.mim/tools/{tool}', *args]
    for command, (file, _) in COMMANDS.items():
        if not file.endswith('.sh'):
            yield [str(finola), *command.split(), '--help']


def test_configs_by_name_and_commands(installed):
    place, interpreter = installed
    for name, (base, settings) in OWN.items():
        (place / f'{name}.py').write_text(f"_base_ = 'finola_mm::{base}.py'\n{settings}\n")
        host = f"_base_ = __import__('finola_mm') and 'finola_mm::{base}.py'\n{settings}\n"
        (place / f'host_{name}.py').write_text(host + HOST.get(name, ''))
    lines = [*commands(interpreter.with_name('finola'))]
    out = python(RUN, repr(lines), interpreter=interpreter, cwd=place)
    assert out.count('masked/psnr') and out.count('accuracy/top1') and out.count('bbox_mAP')
    made = (
        'encoder.safetensors curvature/ranks.csv waves/speeds.csv found/vis/000001000001.jpg a.png'
    )
    assert [name for name in made.split() if not (place / name).is_file()] == []
    assert len(list(place.glob('browse/*.jpg'))) == 12 and len(list(place.glob('cls-*.pth'))) == 1
    script = {command for command, (file, _) in COMMANDS.items() if file.endswith('.sh')}
    assert {name for name in COMMANDS if f'usage: finola {name} ' in out} == {*COMMANDS} - script


INFER = """
import finola_mm, numpy as np, torch
from mmdet.apis import DetInferencer
from mmengine.hub import get_config, get_model
from mmpretrain import FeatureExtractor, ImageClassificationInferencer, list_models
from mmpretrain.apis import ModelHub
from finola_mm.engine import register_checkpoint_io

mim = f'{finola_mm.__path__[0]}/.mim'
ModelHub.register_model_index(f'{mim}/model-index.yml', mim)
assert 'selfsup/masked_finola_b' in list_models('selfsup/')
register_checkpoint_io()
image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)

(features,) = FeatureExtractor('photos/finola')(image)
assert features[-1].shape == (256, 4, 4)

model = get_model('finola_mm::demo/cls_supervised.py')
torch.save(dict(state_dict=model.state_dict()), 'cls.pth')
names = [*'abcdefghijkl']
classify = ImageClassificationInferencer('demo/cls_supervised', 'cls.pth', classes=names)
assert classify(image)[0]['pred_class'] in names

detect = DetInferencer('demo/det_mf_dec211', scope='finola_mm', show_progress=False)
assert len(detect(image)['predictions'][0]['scores']) == 25
loaded = detect.model.state_dict()
model = get_model('finola_mm::demo/det_mf_dec211.py', pretrained=True)
assert all(torch.equal(loaded[key], value) for key, value in model.state_dict().items())

found = finola_mm.load_detector('det_mf_dec211_shapes').predict(image[..., ::-1], threshold=0)
assert len(found) == 25 and found.classes == tuple(detect.model.dataset_meta['classes'])

assert finola_mm.load_encoder('mocov2_shapes')(torch.rand(1, 3, 64, 64))[-1].shape == (1, 256, 4, 4)
"""


def test_inferencers_and_hub(installed, tmp_path):
    python(INFER, interpreter=installed[1], cwd=tmp_path, FINOLA_WEIGHTS=str(ROOT / 'demo'))
