"""Unreadable images in detection: replaced in training, fatal in an evaluation; exact resume."""

import pytest
import torch
from mmengine.config import Config, DictAction
from mmengine.runner import Runner
from torch.utils.data import DataLoader

import finola_mm.det  # noqa: F401
from finola_mm.datasets.validation import check_data
from finola_mm.engine import read_checkpoint
from finola_mm.engine.hooks.bad_samples_hook import ErrorWithPath
from finola_mm.errors import BadDataError
from tests.engine.test_exact_resume import PARTS, assert_equal
from tests.messages import shows
from tests.tools.small_detector import CONFIG, MODEL, data_options, write_scenes

HARM = {
    'cut short': lambda file: file.write_bytes(file.read_bytes()[:-200]),
    'empty': lambda file: file.write_bytes(b''),
    'of another kind': lambda file: file.write_text('<html>404</html>'),
    'missing': lambda file: file.unlink(),
}


CASES = ['empty', *(pytest.param(harm, marks=pytest.mark.slow) for harm in HARM if harm != 'empty')]


@pytest.fixture
def config(project_root, tmp_path):
    """Two epochs of four batches of one image."""
    cfg = Config.fromfile(CONFIG)
    options = [*MODEL, *data_options(write_scenes(tmp_path / 'scenes'))]
    cfg.merge_from_dict(
        {
            key: DictAction._parse_iterable(value)
            for key, value in (option.split('=') for option in options)
        }
    )
    cfg.train_dataloader.batch_size = 1
    cfg.train_cfg.update(max_epochs=2, val_interval=10)
    cfg.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    cfg.merge_from_dict(dict(test_dataloader=None, test_cfg=None, test_evaluator=None))
    cfg.work_dir = str(tmp_path / 'work')
    return cfg


@pytest.mark.parametrize('harm', CASES)
def test_a_bad_image_of_training_is_replaced_and_logged(config, tmp_path, harm):
    file = tmp_path / 'scenes/train2017/2.jpg'
    HARM[harm](file)
    config.train_dataloader.dataset.max_bad_share = 0.25
    runner = Runner.from_cfg(config)
    runner.train()
    assert runner.iter == 8
    (log,) = tmp_path.glob('work/*/*.log')
    named = [line for line in log.read_text().splitlines() if str(file) in line]
    assert sum('.py' in line for line in named) == 1  # the line of code that failed
    assert '25.00%' in named[-1]


@pytest.mark.parametrize('harm', CASES)
def test_a_bad_image_ends_an_evaluation(config, tmp_path, harm):
    """To replace it, as in training, or to leave it out would change the AP."""
    file = tmp_path / 'scenes/val2017/3.jpg'
    HARM[harm](file)
    runner = Runner.from_cfg(config)
    with pytest.raises(BadDataError) as caught:
        runner.val()
    message = str(caught.value)
    assert str(file) in message and '\n' not in message
    assert 'tools/check/images.py' in message


def test_a_bad_image_in_a_worker(config, tmp_path):
    file = tmp_path / 'scenes/val2017/0.jpg'
    HARM['empty'](file)
    dataset = Runner.build_dataloader(config.val_dataloader).dataset
    dataset.prepare_data = ErrorWithPath(dataset)
    loader = DataLoader(dataset, num_workers=1, collate_fn=list)
    with pytest.raises(BadDataError) as caught:
        next(iter(loader))
    message = str(caught.value)
    assert str(file) in message and '\n' not in message


def test_an_unreadable_validation_image_is_found_before_a_run(config, tmp_path):
    file = tmp_path / 'scenes/val2017/3.jpg'
    HARM['empty'](file)
    with pytest.raises(ValueError, match=shows(file) + r'(?=.*\b1\b)(?=.*\b4\b)'):
        check_data(config, ['train', 'val'])


def test_resumed_within_an_epoch(config, tmp_path):
    """Weights, their average, schedule and counters."""
    config.custom_hooks.append(dict(type='EMAHook'))
    config.default_hooks.checkpoint.update(interval=2, by_epoch=False, max_keep_ckpts=-1)
    whole = train(config, tmp_path / 'whole')
    resumed = train(config, tmp_path / 'resumed', from_file=tmp_path / 'whole/iter_6.pth')
    for part in PARTS:
        assert_equal(resumed[part], whole[part])
    assert resumed['meta']['epoch'] == whole['meta']['epoch'] == 1  # completed epochs
    assert resumed['meta']['iter'] == whole['meta']['iter'] == 8
    assert not all(
        torch.equal(a, b)
        for a, b in zip(
            read_checkpoint(tmp_path / 'whole/iter_6.pth')['state_dict'].values(),
            whole['state_dict'].values(),
            strict=True,
        )
    )  # the last two steps changed the weights


def train(config, work_dir, from_file=None):
    """Return the last checkpoint of a run."""
    config = config.copy()
    config.update(
        work_dir=str(work_dir), load_from=from_file and str(from_file), resume=from_file is not None
    )
    Runner.from_cfg(config).train()
    return read_checkpoint(work_dir / 'iter_8.pth')
