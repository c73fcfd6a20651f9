"""N epochs and N more equal 2N: logged losses, weights and optimizer are bit-identical.

The model contains dropout, whose random numbers must be reproduced too.
"""

import json
import time
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.logging import MessageHub
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner
from torch import nn

from finola_mm.datasets import SeededSampler
from finola_mm.engine import CheckpointError, ExactEpochLoop
from finola_mm.functional.compat import COMPILES
from finola_mm.necks import TransformerUpsampler
from finola_mm.registry import MODELS, OPTIM_WRAPPERS
from tests.messages import shows

CONFIG = 'configs/demo/masked_finola_b.py'


@MODELS.register_module(force=True)
class DropoutUpsampler(TransformerUpsampler):
    def forward(self, z, keep=None):
        return super().forward(nn.functional.dropout(z, 0.1, self.training), keep)


@OPTIM_WRAPPERS.register_module(force=True)
class ScaledOptimWrapper(AmpOptimWrapper):
    """MMEngine's wrapper for float16, on a CPU, with a scale that grows every third step."""

    def __init__(self, **kwargs):
        OptimWrapper.__init__(self, **kwargs)
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=256.0, growth_interval=3)
        self._scale_update_param, self.cast_dtype = None, torch.bfloat16


# The 10 images make 5 batches: 2 epochs, 10 iterations.
EPOCHS = dict(type='finola_mm.ExactEpochLoop', max_epochs=2)
ITERATIONS = dict(type='IterBasedTrainLoop', max_iters=10)
EPOCH_SAMPLER = dict(type='finola_mm.SeededSampler', shuffle=True)
INFINITE_SAMPLER = dict(type='finola_mm.SeededInfiniteSampler', shuffle=True)
EMA = [dict(type='EMAHook')]


def run(folder, work_dir, *, loop, sampler, workers, hooks, save, resume=None, scaled=False):
    """Train the demo's model on 10 images; return logged losses and the last checkpoint."""
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
    if scaled:
        cfg.optim_wrapper.type = 'finola_mm.ScaledOptimWrapper'
    cfg.default_hooks.checkpoint = dict(type='finola_mm.AtomicCheckpointHook', **save)
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


@pytest.fixture
def threads():
    """Set the number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


PARTS = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')


@pytest.mark.parametrize('case', CASES)
def test_resumed_equals_uninterrupted(project_root, image_folder, tmp_path, threads, case):
    if case == 'within an epoch' and not hasattr(torch.amp, 'GradScaler'):
        pytest.skip('torch 2.3 is the first with a gradient scaler for CPUs')
    loop, sampler, workers, hooks, middle = CASES[case]
    if case == 'iterations':
        threads(2)  # reductions are split among threads
    unit, number = middle.removesuffix('.pth').split('_')
    save = dict(interval=int(number), by_epoch=unit == 'epoch')
    common = dict(
        loop=loop,
        sampler=sampler,
        workers=workers,
        hooks=hooks,
        save=save,
        scaled=case == 'within an epoch',
    )
    whole, expected = run(image_folder, tmp_path / 'whole', **common)
    resume = tmp_path / 'whole' / middle
    if case == 'iterations' and COMPILES:  # the resumed run is, in addition, compiled
        common['hooks'] = [*hooks, dict(type='finola_mm.CompileHook', backend='eager')]
    second, resumed = run(image_folder, tmp_path / 'resumed', **common, resume=resume)

    start = torch.load(resume, weights_only=False)['meta']['iter']
    assert set(whole) == set(range(1, 11)) and set(second) == set(range(start + 1, 11))
    assert second == {step: whole[step] for step in second}
    for part in PARTS:
        assert_equal(resumed.get(part), expected.get(part))
    for counter in ('epoch', 'iter'):
        assert resumed['meta'][counter] == expected['meta'][counter]
    if common['scaled']:  # it grew before the interruption and after it
        assert resumed['optimizer']['loss_scaler']['scale'] == 256 * 2**3


def no_model(length, *, iteration, epoch, before=None, sampler=None, batch_size=2):
    """Make a loop without a model: epochs of ``length``, resumed at ``iteration``."""
    loop = object.__new__(ExactEpochLoop)
    loop._iter, loop._epoch = iteration, epoch
    hub = MessageHub.get_instance(f'resume_{time.time_ns()}')
    if before:
        hub.update_info('epoch_length', before)
    logger = SimpleNamespace(warning=lambda text: warnings.append(text))
    warnings = []
    loop._runner = SimpleNamespace(message_hub=hub, logger=logger)
    loop.dataloader = SimpleNamespace(sampler=sampler, batch_size=batch_size)
    return loop, warnings


def test_the_last_batch_of_an_epoch_may_be_smaller():
    sampler = SeededSampler(range(10), seed=0)
    loop, _ = no_model(3, iteration=3, epoch=0, sampler=sampler, batch_size=4)
    loop._start_at(3)
    assert list(sampler) == []


def test_epochs_of_another_length():
    """A resume is allowed with a warning at the end of an epoch, and refused within one."""
    loop, warnings = no_model(4, iteration=10, epoch=2, before=5)
    loop._check_epoch_length(4)
    assert loop._iter == 8 and '4' in warnings[0] and '5' in warnings[0]
    assert loop.runner.message_hub.get_info('epoch_length') == 4
    loop, _ = no_model(4, iteration=11, epoch=2, before=5)
    with pytest.raises(CheckpointError, match=shows(4, 5)):
        loop._check_epoch_length(4)
    loop, warnings = no_model(5, iteration=11, epoch=2, before=5)
    loop._check_epoch_length(5)
    assert loop._iter == 11 and not warnings


def test_a_sampler_that_cannot_start_within_an_epoch():
    loop, _ = no_model(5, iteration=3, epoch=0, sampler=DefaultSampler(range(10)))
    with pytest.raises(CheckpointError, match=shows('DefaultSampler', 'SeededSampler')):
        loop._start_at(3)


def assert_equal(a, b):
    """Compare nested dicts and lists of tensors and numbers bit for bit."""
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
