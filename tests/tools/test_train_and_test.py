"""The command lines from training to the picture, on a handful of images."""

import json
import re
import subprocess
import sys

import pytest
import torch
from PIL import Image

from tests.conftest import tiny_options
from tests.forks import run_script as tool
from tests.messages import shows

CONFIG = 'configs/demo/masked_finola_b.py'


def picture_size(path):
    with Image.open(path) as picture:
        return picture.size


@pytest.fixture(scope='module')
def trained(tmp_path_factory, image_folder):
    """A work directory after two steps; this one process is started as a user starts it."""
    work_dir = tmp_path_factory.mktemp('work') / 'run'
    options = tiny_options(image_folder)
    command = ['tools/train.py', CONFIG, '--work-dir', work_dir, '--cfg-options', *options]
    subprocess.run([sys.executable, *map(str, command)], check=True, timeout=300)
    return work_dir


def test_train_leaves_logs_checkpoint_and_pictures(trained):
    assert (trained / 'iter_2.pth').is_file()
    assert list(trained.glob('*/vis_data/events.out.tfevents*')), 'no TensorBoard log'
    assert list(trained.glob('*/vis_data/vis_image/reconstruction_*.png'))
    (scalars,) = trained.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in scalars.read_text().splitlines()]
    assert [row['step'] for row in rows if 'loss' in row] == [1, 2]
    assert [row['step'] for row in rows if 'masked/psnr' in row] == [2]


def test_test_reports_what_training_did(trained, image_folder, tmp_path):
    out, show = tmp_path / 'metrics.json', tmp_path / 'show'
    tool(
        'tools/test.py',
        CONFIG,
        trained,
        '--work-dir',
        tmp_path,
        '--out',
        out,
        '--show-dir',
        show,
        '--cfg-options',
        *tiny_options(image_folder),
    )
    metrics = json.loads(out.read_text())
    (scalars,) = trained.glob('*/vis_data/scalars.json')
    logged = [json.loads(line) for line in scalars.read_text().splitlines()][-1]
    assert metrics['masked/psnr'] == pytest.approx(logged['masked/psnr'], abs=1e-3)
    assert metrics['masked/gain'] == pytest.approx(
        metrics['masked/psnr'] - metrics['masked/psnr_mean_colour']
    )
    assert picture_size(show / 'reconstruction.png')[1] == 4 * 128 + 3 * 2


def test_resume_equals_a_run_that_was_not_interrupted(trained, image_folder, tmp_path):
    options = [*tiny_options(image_folder), 'train_cfg.max_iters=4']
    resumed = tool(
        'tools/train.py',
        CONFIG,
        '--work-dir',
        tmp_path / 'resumed',
        '--no-validate',
        '--resume',
        trained,
        '--cfg-options',
        *options,
    )
    assert 'Iter(train) [4/4]' in resumed and 'Iter(train) [2/4]' not in resumed
    tool(
        'tools/train.py',
        CONFIG,
        '--work-dir',
        tmp_path / 'straight',
        '--no-validate',
        '--cfg-options',
        *options,
    )
    weights = [
        torch.load(tmp_path / name / 'iter_4.pth', weights_only=False)['state_dict']
        for name in ('resumed', 'straight')
    ]
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name


def lines_on(folder, said):
    """The tool's own lines of the log that name a folder itself, and no file in it."""
    own = (line for line in said.splitlines() if ' INFO ' in line)
    own = (line for line in own if 'Checkpoints will be saved to' not in line)  # MMEngine's
    return [line for line in own if re.search(rf'{re.escape(str(folder))}(?!/)', line)]


def test_a_job_that_always_says_resume(trained, image_folder, tmp_path):
    """The first time it starts from load_from; the next, from what it has."""
    options = tiny_options(image_folder)
    job = tmp_path / 'job'
    command = ['tools/train.py', CONFIG, '--work-dir', job, '--no-validate', '--resume']
    first = tool(*command, '--cfg-options', *options, f'load_from={trained / "iter_2.pth"}')
    assert len(lines_on(job, first)) == 1
    assert re.search(rf'(?=.*MaskedFINOLA).*{trained / "iter_2.pth"}', first)
    assert 'Iter(train) [1/2]' in first
    again = tool(
        *command,
        '--pretrained',
        'no_such.pth',
        '--cfg-options',
        *options,
        'train_cfg.max_iters=3',
        'load_from=no_such.pth',
    )
    assert 'Iter(train) [3/3]' in again and 'Iter(train) [2/3]' not in again
    assert not lines_on(job, again)


def test_resume_of_another_model_is_refused(trained, image_folder, tmp_path):
    out = tool(
        'tools/train.py',
        CONFIG,
        '--work-dir',
        tmp_path,
        '--no-validate',
        '--resume',
        trained,
        '--cfg-options',
        *tiny_options(image_folder),
        'train_cfg.max_iters=4',
        'model.upsampler.embed_dim=96',
        expect=1,
    )
    file, last = str(trained / 'iter_2.pth'), out.splitlines()[-1]
    assert re.search(shows('train: ', file, 'masked_finola_b', 'upsampler.embed.weight'), last)
    assert re.search(r'\b2\b', last.replace(file, '')), 'the iteration'
    assert 'Traceback' not in out


def test_a_resume_with_another_learning_rate(trained, image_folder, tmp_path):
    """What the log announces is used: the third step of a warm-up of 30 to this rate."""
    out = tool(
        'tools/train.py',
        CONFIG,
        '--work-dir',
        tmp_path,
        '--no-validate',
        '--resume',
        trained,
        '--cfg-options',
        *tiny_options(image_folder),
        'train_cfg.max_iters=3',
        'optim_wrapper.optimizer.lr=1e-6',
        'train_dataloader.batch_size=1',
    )
    assert re.search(r'learning rate 1e-06', out)
    assert re.search(r'WARNING.*total batch size 2 -> 1', out)
    assert f' lr: {1e-6 * (0.01 + 0.99 * 2 / 29):.4e}' in out
    assert re.search(r'WARNING.*lr 0.0005 -> 1e-06', out)


@pytest.mark.parametrize('option', ['--out', '--work-dir', '--show-dir'])
def test_outputs_are_checked_before_the_test(trained, image_folder, tmp_path, option):
    out = tool(
        'tools/test.py',
        CONFIG,
        trained,
        '--work-dir',
        tmp_path,
        option,
        '/proc/x.json',
        '--cfg-options',
        *tiny_options(image_folder),
        expect=1,
    )
    assert re.search(shows('test: ', '/proc/x.json'), out.splitlines()[-1])
    assert 'Iter(test)' not in out and 'Traceback' not in out


def test_amp_and_auto_scale_lr(image_folder, tmp_path):
    """On a CPU --amp is bfloat16 where it has it; the learning rate scales by 2 images over 64."""
    out = tool(
        'tools/train.py',
        'configs/demo/masked_finola_b.py',
        '--work-dir',
        tmp_path,
        '--amp',
        '--auto-scale-lr',
        '--no-validate',
        '--cfg-options',
        *tiny_options(image_folder),
        'optim_wrapper.type=OptimWrapper',
    )
    assert "type='finola_mm.BFloat16OptimWrapper'" in out
    assert f' lr: {5e-4 * 1e-2 * 2 / 64:.4e}' in out  # the first step of the warm-up


def batch_warnings(said):
    return [line for line in said.splitlines() if 'WARNING' in line and '--auto-scale-lr' in line]


@pytest.mark.parametrize('steps', [2, 32])
def test_accumulated_batches_count_for_the_learning_rate(image_folder, tmp_path, steps):
    """2 images in each of 2 steps are a batch of 4, in each of 32 the config's own batch of 64."""
    accumulate = f'optim_wrapper.accumulative_counts={steps}'
    command = (
        'tools/train.py',
        'configs/demo/masked_finola_b.py',
        '--work-dir',
        tmp_path,
        '--no-validate',
        '--cfg-options',
        *tiny_options(image_folder),
        accumulate,
    )
    warned = batch_warnings(tool(*command))
    assert len(warned) == (steps == 2)
    for line in warned:
        assert {'64', str(2 * steps)} <= {*re.findall(r'\d+', line.split('WARNING')[1])}
    out = tool(*command, '--auto-scale-lr')
    assert f' lr: {5e-4 * 1e-2 * 2 * steps / 64:.4e}' in out
    assert not batch_warnings(out)


def test_a_checkpoint_of_another_model_is_refused(trained, image_folder, tmp_path):
    wide = ['--cfg-options', *tiny_options(image_folder), 'model.upsampler.embed_dim=96']
    for name, command in (
        ('test', ['tools/test.py', CONFIG, trained, '--work-dir', tmp_path, *wide]),
        (
            'reconstruct',
            ['tools/visualization/reconstruct.py', CONFIG, trained, image_folder / 'val', *wide],
        ),
    ):
        out = tool(*command, expect=1)
        file, last = str(trained / 'iter_2.pth'), out.splitlines()[-1]
        assert re.search(shows(f'{name}: ', file, 'masked_finola_b', 'MaskedFINOLA'), last)
        assert re.search(r'\b2\b', last.replace(file, '')), 'the iteration'
        assert 'upsampler.embed.weight' in last
        assert 'Traceback' not in out


def test_fewer_images_than_a_batch(image_folder, tmp_path):
    options = [*tiny_options(image_folder), 'train_dataloader.batch_size=11']
    out = tool(
        'tools/train.py',
        CONFIG,
        '--work-dir',
        tmp_path,
        '--no-validate',
        '--cfg-options',
        *options,
        expect=1,
    )
    values = ('train: ', 10, 11, 'train_dataloader.batch_size')
    assert re.search(shows(*values), out.splitlines()[-1])
    assert 'Traceback' not in out


def test_reconstruct_names_a_file_that_is_no_image(trained, tmp_path):
    (tmp_path / 'broken.jpg').write_bytes(b'no image')
    out = tool(
        'tools/visualization/reconstruct.py',
        CONFIG,
        trained,
        tmp_path / 'broken.jpg',
        '--cfg-options',
        'model.upsampler.depth=1',
        expect=1,
    )
    assert re.search(shows('reconstruct: ', 'broken.jpg'), out.splitlines()[-1])
    assert 'Traceback' not in out


def test_reconstruct_files_and_folders(trained, image_folder, tmp_path):
    picture = tmp_path / 'out' / 'picture.png'
    printed = tool(
        'tools/visualization/reconstruct.py',
        CONFIG,
        trained,
        image_folder / 'val',
        image_folder / 'train/cat/0.jpg',
        '--out',
        picture,
        '--offset',
        0,
        4,
        '--cfg-options',
        'model.upsampler.depth=1',
    )
    width = 72 + 5 * (128 + 2)
    assert picture_size(picture) == (width, 4 * 128 + 3 * 2)
    psnr, mean_colour, gain = map(float, re.findall(r'^masked/\S+ +(\S+)$', printed, re.MULTILINE))
    assert gain == pytest.approx(psnr - mean_colour, abs=2e-3) and 0 < psnr < 60


def test_reconstruct_does_not_overwrite_its_input(trained, image_folder, tmp_path):
    picture = tmp_path / 'mine.jpg'
    picture.write_bytes((image_folder / 'val/0.jpg').read_bytes())
    before = picture.read_bytes()
    script = 'tools/visualization/reconstruct.py'
    out = tool(script, CONFIG, trained, picture, '--out', picture, expect=1)
    assert re.search(shows('reconstruct: ', picture), out.splitlines()[-1])
    assert picture.read_bytes() == before


@pytest.mark.parametrize(
    ('args', 'values'),
    [
        (['tools/train.py', 'configs/demo/no_such.py'], ['train: ', 'no_such.py']),
        (
            [
                'tools/train.py',
                CONFIG,
                '--cfg-options',
                'train_dataloader.dataset.dataset.data_root=nowhere',
            ],
            ['train: ', 'nowhere'],
        ),
        (['tools/test.py', CONFIG, 'no_such.pth'], ['test: ', 'no_such.pth']),
        (
            ['tools/visualization/reconstruct.py', CONFIG, 'no_such.pth', 'README.md'],
            ['reconstruct: ', 'no_such.pth'],
        ),
    ],
)
def test_mistakes_end_in_one_line(project_root, args, values):
    out = tool(*args, expect=1)
    assert re.search(shows(*values), out.splitlines()[-1])
    assert 'Traceback' not in out


def test_an_offset_outside_the_map(trained, image_folder):
    out = tool(
        'tools/visualization/reconstruct.py',
        CONFIG,
        trained,
        image_folder / 'val',
        '--offset',
        5,
        0,
        '--cfg-options',
        'model.upsampler.depth=1',
        expect=1,
    )
    assert re.search(shows('reconstruct: ', 'offset', '(5, 0)', 4), out.splitlines()[-1])
    assert 'Traceback' not in out
