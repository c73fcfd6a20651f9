"""Training through the runner: a few scenes learned by heart, and an exact resume."""

import importlib.util
import json
import re
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from finola_mm.errors import NonFiniteLossError
from tests.messages import shows

from .conftest import CLASSES, ROOT

SCRIPT = ROOT / 'tools/dataset_converters/make_shapes.py'


@pytest.fixture(scope='session')
def scenes(tmp_path_factory):
    """A COCO directory with 8 scenes of 96 x 72 pixels."""
    spec = importlib.util.spec_from_file_location('make_shapes', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules['make_shapes'] = module  # worker processes look the functions up by name
    spec.loader.exec_module(module)
    out = tmp_path_factory.mktemp('shapes') / 'data'
    counts = [
        f'--{split}-{what}={n}'
        for split in ('train', 'val')
        for what, n in (('images', CLASSES), ('scenes', 8))
    ]
    module.main([f'--out={out}', '--size=64', '--workers=1', *counts])
    del sys.modules['make_shapes']
    return out / 'coco'


@pytest.fixture
def config(scenes, tmp_path):
    """The demo's config on all training scenes at once, for training and for validation."""
    cfg = Config.fromfile(ROOT / 'configs/demo/det_mf_dec211.py')
    cfg.work_dir = str(tmp_path)
    train, val = cfg.train_dataloader.dataset.dataset, cfg.val_dataloader.dataset
    val.update(ann_file=train.ann_file, data_prefix=train.data_prefix)
    cfg.val_evaluator.ann_file = str(scenes / 'annotations/instances_train2017.json')
    cfg.val_dataloader.batch_size = 8
    cfg.merge_from_dict(dict(test_dataloader=None, test_cfg=None, test_evaluator=None))
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    for dataset in (train, val):
        dataset.data_root = str(scenes)
        for step in dataset.pipeline:
            if step.type == 'mmdet.Resize':
                step.scale = (96, 72)  # as they are
    cfg.model.decoder.update(dim=64, heads=4, hidden=128, num_queries=12, dropout=0.0)
    cfg.model.test_cfg.max_per_img = 12
    cfg.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    return cfg


@pytest.mark.slow
def test_eight_scenes_are_learned_by_heart(config):
    """Boxes, classes and data fit together: the loss falls to almost nothing, AP50 above 0.9."""
    steps = 250
    config.train_dataloader.dataset.dataset.pipeline.pop(3)  # the flip: the very same images
    config.optim_wrapper.optimizer.lr = 2e-3
    config.param_scheduler = [
        dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
        dict(type='CosineAnnealingLR', T_max=steps - 30, by_epoch=False, begin=30, end=steps),
    ]
    config.train_cfg.update(max_epochs=steps, val_interval=steps)
    config.default_hooks.checkpoint.interval = -1
    config.default_hooks.logger.interval = 50
    runner = Runner.from_cfg(config)
    runner.train()
    last = {
        name: runner.message_hub.get_scalar(name).current()
        for name in ('train/loss_cls', 'train/loss_bbox', 'train/loss_iou', 'val/coco/bbox_mAP_50')
    }
    assert last.pop('val/coco/bbox_mAP_50') > 0.9
    assert sum(last.values()) < 0.3, last  # it begins at 8.5


def test_a_resumed_run_is_the_run_that_was_interrupted(config, tmp_path):
    config.train_dataloader.batch_size = 3  # 3 batches an epoch, the last of 2
    config.model.decoder.dropout = 0.1
    config.train_cfg.update(max_epochs=2, val_interval=10)
    config.default_hooks.checkpoint.update(interval=2, by_epoch=False)
    whole = trained(config, tmp_path / 'whole')
    first = tmp_path / 'whole/iter_2.pth'
    assert first.is_file()
    again = config.copy()
    again.update(load_from=str(first), resume=True)
    resumed = trained(again, tmp_path / 'resumed')
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_a_run_whose_weights_are_no_numbers_ends_with_its_images_named(config, tmp_path):
    runner = Runner.from_cfg(config)
    torch.nn.init.constant_(runner.model.bbox_head.fc_reg.bias, float('nan'))
    with pytest.raises(NonFiniteLossError, match=shows('loss_bbox', 'nan')) as error:
        runner.train()
    (report,) = tmp_path.glob('nonfinite_loss_*.json')
    rest = str(error.value).replace(str(report), '')
    assert len(re.findall(r'(?<![\w.])1(?!\.?\w)', rest)) >= 2  # iteration and epoch
    assert len(json.loads(report.read_text())['images']) == 8


def trained(config, work_dir):
    """The weights at the end of a run in ``work_dir``."""
    config = config.copy()
    config.work_dir, config.experiment_name = str(work_dir), work_dir.name
    runner = Runner.from_cfg(config)
    runner.train()
    assert runner.iter == 6
    return {name: value.clone() for name, value in runner.model.state_dict().items()}
