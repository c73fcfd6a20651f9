"""mmdet's own tools on our detection configs, as the README's recipes call them."""

from pathlib import Path

import mmdet
import pytest

from tests.forks import run_script
from tests.tools import small_detector

HOST = Path(mmdet.__file__).parent / '.mim' / 'tools'
CONFIG = small_detector.CONFIG
# The tool finds the training pipeline only below wrappers that it knows by name.
KNOWN_WRAPPER = 'train_dataloader.dataset.type=RepeatDataset'
# In it, the tool keeps only loaders of this class.
KNOWN_LOADER = 'train_dataloader.dataset.dataset.pipeline.0.type=LoadImageFromFile'


@pytest.fixture(scope='module')
def setting(tmp_path_factory):
    """(checkpoint, --cfg-options) of the small detector and four scenes."""
    root = tmp_path_factory.mktemp('host')
    checkpoint = small_detector.write_checkpoint(root / 'small.pth')
    scenes = small_detector.write_scenes(root / 'coco')
    options = [
        *small_detector.MODEL,
        *small_detector.data_options(scenes),
        f'work_dir={root / "work"}',
    ]
    return checkpoint, ['--cfg-options', *options]


def run(script, *args):
    run_script(HOST / script, *args)


def test_browse_dataset(project_root, setting, tmp_path):
    run(
        'analysis_tools/browse_dataset.py',
        CONFIG,
        '--not-show',
        '--output-dir',
        tmp_path,
        *setting[1],
    )
    assert sorted(path.name for path in tmp_path.glob('*.jpg')) == [f'{i}.jpg' for i in range(4)]


def test_results_and_their_analysis(project_root, setting, tmp_path):
    """test.py --out --show-dir, and the best and worst images of analyze_results."""
    checkpoint, options = setting
    results = tmp_path / 'results.pkl'
    run(
        'test.py',
        CONFIG,
        checkpoint,
        '--out',
        results,
        '--show-dir',
        'show',
        '--work-dir',
        tmp_path,
        *options,
    )
    assert len(list(tmp_path.glob('*/show/*.jpg'))) == 4
    run(
        'analysis_tools/analyze_results.py',
        CONFIG,
        results,
        tmp_path / 'cases',
        '--topk',
        1,
        *options,
        KNOWN_WRAPPER,
        KNOWN_LOADER,
    )
    for folder in ('good', 'bad'):
        assert len(list((tmp_path / 'cases' / folder).glob('*.jpg'))) == 1


@pytest.mark.parametrize('task', ['dataloader', pytest.param('inference', marks=pytest.mark.gpu)])
def test_benchmark(project_root, setting, tmp_path, task):
    checkpoint, options = setting
    run(
        'analysis_tools/benchmark.py',
        CONFIG,
        '--checkpoint',
        checkpoint,
        '--task',
        task,
        '--max-iter',
        4,
        '--num-warmup',
        1,
        '--work-dir',
        tmp_path,
        *options,
    )
    assert 'fps' in (tmp_path / 'benchmark.log').read_text()
