"""The segmentation config trains and tests with mmseg on images in ADE20K's format."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmpretrain.models import ResNet
from PIL import Image

pytest.importorskip('mmseg', exc_type=ImportError)
CONFIG = 'configs/seg/upernet_resnet18.py'


@pytest.fixture
def ade20k(tmp_path):
    """Scenes of a grey square on black; label 0 is ignored, 1 is the background."""
    root, rng = tmp_path / 'ade', np.random.default_rng(0)
    for split, count in (('training', 8), ('validation', 2)):
        for kind in ('images', 'annotations'):
            (root / kind / split).mkdir(parents=True)
        for i in range(count):
            image, labels = np.zeros((96, 96, 3), np.uint8), np.ones((96, 96), np.uint8)
            y, x = rng.integers(0, 40, 2)
            image[y : y + 50, x : x + 50] = 160
            labels[y : y + 50, x : x + 50] = 42
            Image.fromarray(image).save(root / 'images' / split / f'{i}.jpg')
            Image.fromarray(labels).save(root / 'annotations' / split / f'{i}.png')
    return root


@pytest.mark.slow
def test_a_pretrained_encoder_trains_and_is_tested(ade20k, tmp_path, project_root):
    torch.manual_seed(0)
    encoder = ResNet(18)
    weights = {f'backbone.{name}': value for name, value in encoder.state_dict().items()}
    torch.save(dict(state_dict=weights), tmp_path / 'encoder.pth')
    options = [
        *(f'{split}_dataloader.dataset.data_root={ade20k}' for split in ('train', 'val', 'test')),
        *(
            f'{split}_dataloader.{name}'
            for split in ('train', 'val', 'test')
            for name in ('num_workers=0', 'persistent_workers=False')
        ),
        'train_dataloader.dataset.pipeline.2.scale=(96,96)',
        'train_dataloader.dataset.pipeline.3.crop_size=(64,64)',
        'val_dataloader.dataset.pipeline.1.scale=(96,96)',
        'test_dataloader.dataset.pipeline.1.scale=(96,96)',
        'model.data_preprocessor.size=(64,64)',
        'train_cfg.max_iters=4',
        'train_cfg.val_interval=4',
        'default_hooks.logger.interval=1',
        'optim_wrapper.optimizer.lr=1e-9',
    ]

    def run(*command):
        result = subprocess.run(
            [sys.executable, *command, '--cfg-options', *options],
            cwd=project_root,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    out = tmp_path / 'out'
    log = run(
        *('tools/train.py', CONFIG, '--work-dir', str(out)),
        *('--pretrained', str(tmp_path / 'encoder.pth')),
    )
    losses = re.findall(r'Iter\(train\) .* loss: ([0-9.]+)', log)
    assert len(losses) == 4 and float(losses[-1]) > 0
    trained = torch.load(out / 'iter_4.pth', weights_only=False)['state_dict']
    for name, value in encoder.named_parameters():
        torch.testing.assert_close(trained[f'backbone.{name}'], value, rtol=0, atol=1e-6)

    validated = re.search(r'mIoU: ([0-9.]+)', log)[1]
    tested = run('tools/test.py', CONFIG, str(out / 'iter_4.pth'), '--work-dir', str(out))
    assert re.search(r'mIoU: ([0-9.]+)', tested)[1] == validated
