"""N epochs and N more equal 2N: every logged loss, the weights and the optimizer, bit for bit.

A dropout stands in the model: what a step draws at random has to come back too.
"""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn

from finola_mm.necks import TransformerUpsampler
from finola_mm.registry import MODELS

CONFIG = 'configs/demo/masked_finola_b.py'


@MODELS.register_module(force=True)
class DropoutUpsampler(TransformerUpsampler):
    def forward(self, z, keep=None):
        return super().forward(nn.functional.dropout(z, 0.1, self.training), keep)


# The 10 images make 5 batches: 2 epochs, 10 iterations.
EPOCHS = dict(type='finola_mm.ExactEpochLoop', max_epochs=2)
ITERATIONS = dict(type='IterBasedTrainLoop', max_iters=10)
EPOCH_SAMPLER = dict(type='finola_mm.SeededSampler', shuffle=True)
INFINITE_SAMPLER = dict(type='finola_mm.SeededInfiniteSampler', shuffle=True)
EMA = [dict(type='EMAHook')]


def run(folder, work_dir, *, loop, sampler, workers, hooks, save, resume=None):
    """Train the demo's model on the folder's 10 images; -> (logged losses, last checkpoint)."""
    cfg = Config.fromfile(CONFIG)
    cfg.train_cfg = loop
    cfg.train_dataloader.update(
        batch_size=2, num_workers=workers, persistent_workers=workers > 0, sampler=sampler
    )
    cfg.train_dataloader.dataset.dataset.data_root = str(folder)
    for split in ('val', 'test'):
        cfg[f'{split}_cfg'] = cfg[f'{split}_dataloader'] = cfg[f'{split}_evaluator'] = None
    cfg.model.upsampler.update(type='finola_mm.DropoutUpsampler', depth=1)
    cfg.param_scheduler = dict(type='CosineAnnealingLR', T_max=10, by_epoch=False, end=10)
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', **save)
    cfg.default_hooks.logger = dict(type='LoggerHook', interval=1)
    cfg.custom_hooks = [dict(type='finola_mm.SeedIterationHook'), *hooks]
    cfg.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    cfg.log_level = 'ERROR'
    cfg.work_dir, cfg.experiment_name = str(work_dir), work_dir.name
    cfg.resume, cfg.load_from = bool(resume), resume and str(resume)
    Runner.from_cfg(cfg).train()
    (scalars,) = work_dir.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in scalars.read_text().splitlines()]
    newest = torch.load((work_dir / 'last_checkpoint').read_text(), weights_only=False)
    return {row['step']: (row['loss'], row['lr']) for row in rows}, newest


CASES = {
    # name: loop, sampler, workers, hooks, checkpoint to resume from
    'epochs': (EPOCHS, EPOCH_SAMPLER, 0, [], 'epoch_1.pth'),
    'epochs, workers, average': (EPOCHS, EPOCH_SAMPLER, 2, EMA, 'epoch_1.pth'),
    'within an epoch': (EPOCHS, EPOCH_SAMPLER, 2, EMA, 'iter_3.pth'),
    'iterations': (ITERATIONS, EPOCH_SAMPLER, 0, EMA, 'iter_7.pth'),
    'iterations, workers': (ITERATIONS, INFINITE_SAMPLER, 2, EMA, 'iter_7.pth'),
}


@pytest.mark.parametrize('case', CASES)
def test_resumed_equals_uninterrupted(project_root, image_folder, tmp_path, case):
    loop, sampler, workers, hooks, middle = CASES[case]
    unit, number = middle.removesuffix('.pth').split('_')
    save = dict(interval=int(number), by_epoch=unit == 'epoch')
    common = dict(loop=loop, sampler=sampler, workers=workers, hooks=hooks, save=save)
    whole, expected = run(image_folder, tmp_path / 'whole', **common)
    resume = tmp_path / 'whole' / middle
    second, resumed = run(image_folder, tmp_path / 'resumed', **common, resume=resume)

    start = torch.load(resume, weights_only=False)['meta']['iter']
    assert set(whole) == set(range(1, 11)) and set(second) == set(range(start + 1, 11))
    assert second == {step: whole[step] for step in second}
    for part in ('state_dict', 'ema_state_dict', 'optimizer'):
        assert_equal(resumed.get(part), expected.get(part))


def assert_equal(a, b):
    """Nested dicts and lists of tensors and numbers, to the bit."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    else:
        assert a == b
