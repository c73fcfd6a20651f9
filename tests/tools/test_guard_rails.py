"""Messages of a training run on broken files, and of one whose loss is not finite."""

import json
import re
import shutil

import pytest

from tests.conftest import tiny_options
from tests.forks import run_script
from tests.messages import shows
from tests.tools import small_detector

CONFIG = 'configs/demo/masked_finola_b.py'


def train(root, work_dir, *options, iterations, expect):
    return run_script(
        'tools/train.py',
        CONFIG,
        '--work-dir',
        work_dir,
        '--no-validate',
        '--cfg-options',
        *tiny_options(root),
        'train_dataloader.num_workers=2',
        f'train_cfg.max_iters={iterations}',
        *options,
        expect=expect,
    )


@pytest.fixture(scope='module')
def hundred_images(tmp_path_factory, image_folder):
    """100 valid images; the tests break some of a copy: empty, truncated or no image."""
    root = tmp_path_factory.mktemp('hundred')
    (root / 'train').mkdir()
    source = image_folder / 'train/cat/0.jpg'
    for i in range(100):
        shutil.copy(source, root / 'train' / f'{i:02}.jpg')
    return root


def broken_copy(root, target, count):
    shutil.copytree(root, target)
    whole = (target / 'train/00.jpg').read_bytes()
    for i in range(count):
        contents = (b'', whole[: len(whole) // 2], b'<html>404</html>')[i % 3]
        (target / 'train' / f'{i:02}.jpg').write_bytes(contents)
    return target


def test_one_percent_is_replaced_named_and_counted(project_root, hundred_images, tmp_path):
    root = broken_copy(hundred_images, tmp_path / 'data', 1)
    out = train(root, tmp_path / 'work', 'train_dataloader.batch_size=10', iterations=10, expect=0)
    assert 'Iter(train) [10/10]' in out
    bad = f'{root}/train/00.jpg'
    warned = [line.split('WARNING')[1] for line in out.splitlines() if 'WARNING' in line]
    *_, last = named = [line for line in warned if bad in line]
    assert sum('not a complete image' in line for line in named) == 1  # with the reason
    assert {*re.findall(r'\d+(?:\.\d+)?%?', last.replace(bad, ''))} == {'1', '100', '1.00%'}


@pytest.mark.parametrize('count', [10, 100])
def test_more_than_the_tolerated_share_ends_the_run(project_root, hundred_images, tmp_path, count):
    root = broken_copy(hundred_images, tmp_path / 'data', count)
    out = train(root, tmp_path / 'work', iterations=50, expect=1)
    said = out.splitlines()[-1]
    assert said.startswith('train: ')
    assert f'{root}/train/' in said and 'max_bad_share' in said
    assert 'Traceback' not in out


@pytest.mark.parametrize('tool', ['train', 'test'])
def test_sizes_that_do_not_fit_each_other(project_root, tmp_path, tool):
    scenes = small_detector.write_scenes(tmp_path / 'coco')
    options = [*small_detector.data_options(scenes), 'model.decoder.num_queries=10']
    checkpoint = small_detector.write_checkpoint(tmp_path / 'small.pth')
    start = ['--pretrained', 'none'] if tool == 'train' else [checkpoint]
    out = run_script(
        f'tools/{tool}.py',
        small_detector.CONFIG,
        *start,
        '--work-dir',
        tmp_path / 'work',
        '--cfg-options',
        *options,
        expect=1,
    )
    assert 'Traceback' not in out
    *_, last = out.splitlines()
    assert last.startswith(f'{tool}: ')
    assert re.search(shows('max_per_img', 25, 10, 'num_queries'), last)


def test_a_loss_that_is_no_number(project_root, image_folder, tmp_path):
    out = train(
        image_folder,
        tmp_path,
        'optim_wrapper.optimizer.lr=1e30',
        'default_hooks.checkpoint.interval=1',
        iterations=8,
        expect=1,
    )
    said = out.splitlines()[-1]
    assert said.startswith('train: ')
    assert 'Traceback' not in out
    (file,) = tmp_path.glob('nonfinite_loss_iter_*_rank_0.json')
    assert str(file) in said
    report = json.loads(file.read_text())
    assert re.search(rf'\bloss\W+{report["losses"]["loss"]}\b', said)
    assert re.search(rf'\b{report["iteration"]}\b', said.replace(str(file), ''))
    assert len(report['images']) == 2 and all('/train/' in name for name in report['images'])
    last = tmp_path / f'iter_{report["iteration"]}.pth'
    assert not last.exists()  # no checkpoint of the failed step
