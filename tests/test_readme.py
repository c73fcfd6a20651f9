"""The README's Python blocks and its commands, run in their order at a reduced size."""

import re
import shlex
import socket
import subprocess
from pathlib import Path

import pytest

import finola_mm
from finola_mm.datasets.photos.catalogue import load_cutouts
from tests.classification.conftest import options
from tests.conftest import ROOT, tiny_options
from tests.forks import run_script
from tests.test_python_page import SMALL, SMALLER
from tests.tools.small_detector import data_options, write_scenes

TEXT = (ROOT / 'README.md').read_text()
# config of the README -> the same recipe for a CPU
SMALL_CONFIGS = {
    'configs/selfsup/masked_finola_b.py': 'configs/demo/masked_finola_b.py',
    'configs/classification/lin.py': 'configs/demo/cls_lin.py',
    'configs/det/detr_mf_dec522.py': 'configs/demo/det_mf_dec211.py',
    'configs/det/detr_mf_dec522_finetune.py': 'configs/study/det_mf_dec211_finetune.py',
}


def blocks(language: str) -> list[str]:
    return re.findall(rf'^```{language}\n(.*?)^```', TEXT, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """The command lines of all bash blocks, without their comments."""
    lines = '\n'.join(blocks('bash')).replace('\\\n', ' ').splitlines()
    return [' '.join(shlex.split(line, comments=True)) for line in lines if line[:1] not in '#']


TOOLS = [line for line in commands() if 'tools/' in line]


@pytest.fixture(scope='module')
def place(tmp_path_factory, labelled_folder):
    """A folder with the checkout's parts, labelled images and annotated scenes."""
    folder = tmp_path_factory.mktemp('readme')
    for name in ('configs', 'demo', 'tools'):
        (folder / name).symlink_to(ROOT / name)
    (folder / 'data').mkdir()
    (folder / 'data' / 'imagenet').symlink_to(labelled_folder)
    write_scenes(folder / 'data' / 'coco')
    return folder


def small_options(config: str, place: Path) -> list[str]:
    """``--cfg-options`` that shrink the demo config of one of the README's commands."""
    images = place / 'data' / 'imagenet'
    if 'det/' in config:
        loaders = [f'{split}_dataloader.batch_size=2' for split in ('train', 'val', 'test')]
        detector = [*data_options(place / 'data' / 'coco'), *loaders, 'train_cfg.max_epochs=1']
        if 'finetune' in config:
            detector += ['load_from=work_dirs/detr_mf_dec522']
        return [*detector, 'train_cfg.val_interval=1', 'default_hooks.checkpoint.interval=1']
    if 'classification/' in config:
        return options(images)
    return [*tiny_options(images), 'default_hooks.knn.k=2']


def reduced(command: str, place: Path) -> list[str]:
    """The arguments of a command, with the demo's configs, its data, and one process."""
    script, *args = shlex.split(command.removeprefix('python '))
    config = next((arg for arg in args if arg.startswith('configs/')), '')
    args = [SMALL_CONFIGS.get(arg, arg) for arg in args]
    if script.endswith('dist_train.sh'):
        script, args = 'tools/train.py', [args[0], *args[2:]]
    if script == 'tools/train.py':
        args += ['--work-dir', f'work_dirs/{Path(config).stem}']
    if script.endswith('reconstruct.py'):
        args = [f'{place}/data/imagenet/val' if arg == 'photos' else arg for arg in args]
    elif script in ('tools/train.py', 'tools/test.py', 'tools/analysis/knn.py'):
        args += ['--cfg-options', *small_options(config, place)]
    return [str(ROOT / script), *args]


def test_python_block(tmp_path, monkeypatch):
    """The three lines, without a network."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'photo.jpg').symlink_to(ROOT / 'docs/detections.jpg')
    monkeypatch.setattr(socket.socket, 'connect', lambda *args: pytest.fail('a connection'))
    block, _ = blocks('python')
    names: dict = {}
    exec(block, names)
    assert names['features'].shape == (1, 256) and names['features'].isfinite().all()
    classes = {cutout.label for cutout in load_cutouts()}
    assert len(names['objects']) and {*names['objects'].names} <= classes


def test_pretraining_in_python(labelled_folder, tmp_path, monkeypatch):
    pytest.importorskip('timm')
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'photos').symlink_to(labelled_folder / 'train')
    _, block = blocks('python')
    for text, smaller in SMALLER.items():
        block = block.replace(text, smaller)
    exec(block, dict(finola_mm=finola_mm, SMALL=SMALL))
    assert (tmp_path / 'work_dirs/resnet50/encoder.safetensors').is_file()


@pytest.mark.parametrize('command', TOOLS)
def test_command(command, place, monkeypatch):
    monkeypatch.chdir(place)
    run_script(*reduced(command, place))


def test_the_commands_left_files_behind(place):
    left = ['encoder.safetensors', 'block.png', 'vector.png', 'bad.csv']
    left.append('work_dirs/lin/last_checkpoint')
    assert [name for name in left if not (place / name).is_file()] == []


def test_make_targets_exist():
    targets = re.findall(r'^make (\w+)', '\n'.join(commands()), re.MULTILINE)
    assert {'setup', 'demo', 'test', 'lint'} <= set(targets)
    for target in targets:
        subprocess.run(['make', '-n', target], cwd=ROOT, check=True, capture_output=True)


def test_linked_pages_and_named_files_exist():
    links = re.findall(r'\]\((?!http)([^)#]+)\)', TEXT)
    named = re.findall(r'\b(?:configs|tools|demo)/[\w./-]+\.\w+', TEXT)
    assert [name for name in {*links, *named} if not (ROOT / name).is_file()] == []


def test_at_most_150_lines():
    assert len(TEXT.splitlines()) <= 150
