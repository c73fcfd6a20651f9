import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from finola_mm import MobileFormer
from finola_mm.engine import (
    CheckpointError,
    StrictLoadHook,
    StrictResumeHook,
    read_checkpoint,
)
from tests.engine.whole import META, Whole, randomized
from tests.messages import shows

EMPTY = dict(param_groups=[])
NO_OPTIMIZER = dict(
    train_loop=None,
    train_dataloader=SimpleNamespace(dataset=None),
    message_hub=SimpleNamespace(runtime_info={}),
    param_schedulers=[],
    optim_wrapper=SimpleNamespace(param_groups=[], optimizer=SimpleNamespace(param_groups=[])),
)


class Wrapped(MMDistributedDataParallel):
    def __init__(self, module):
        nn.Module.__init__(self)
        self.module = module


def resume(module, state, **content):
    checkpoint = dict(meta=META, message_hub={}, optimizer=EMPTY, state_dict=dict(state))
    hook = StrictResumeHook('w.pth')
    hook.after_load_checkpoint(runner_of(module), {**checkpoint, **content})


def runner_of(module):
    logger = MMLogger.get_current_instance()
    return SimpleNamespace(model=module, logger=logger, max_iters=100, **NO_OPTIMIZER)


@pytest.mark.parametrize('wrap', [lambda module: module, Wrapped])
@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_resume_of_the_same_model(source, wrap, prefix):
    """Also with EMAHook, whose averages are the ``state_dict``."""
    state = {prefix + key: tensor for key, tensor in source.state_dict().items()}
    resume(wrap(Whole()), state, ema_state_dict={})
    state.pop(prefix + 'neck.linear.bias')
    with pytest.raises(CheckpointError, match=shows(195, 196, 'neck.linear.bias')):
        resume(wrap(Whole()), state)


@pytest.mark.parametrize(('reached', 'complete'), [(99, False), (100, True)])
def test_resume_of_a_finished_run(source, reached, complete):
    said = []
    runner = SimpleNamespace(
        model=Whole(),
        max_iters=100,
        **NO_OPTIMIZER,
        logger=SimpleNamespace(info=lambda line: None, warning=said.append),
    )
    checkpoint = dict(
        meta=dict(META, iter=reached),
        message_hub={},
        optimizer=EMPTY,
        state_dict=source.state_dict(),
    )
    StrictResumeHook('w.pth').after_load_checkpoint(runner, checkpoint)
    assert len(said) == complete
    assert all('w.pth' in line and '100' in line for line in said)


def test_classes_of_another_data_set(source):
    """In another order they are the labels of other classes."""
    meta = dict(META, dataset_meta=dict(classes=('cat', 'dog')))
    runner = runner_of(Whole())
    checkpoint = dict(
        meta=meta, message_hub={}, optimizer=EMPTY, state_dict=dict(source.state_dict())
    )
    for classes in (['cat', 'dog'], None):
        runner.train_dataloader = SimpleNamespace(
            dataset=SimpleNamespace(metainfo=dict(classes=classes))
        )
        StrictResumeHook('w.pth').after_load_checkpoint(runner, dict(checkpoint))
    runner.train_dataloader.dataset.metainfo['classes'] = ('dog', 'cat')
    with pytest.raises(CheckpointError, match=shows('w.pth', 'cat, dog', 'dog, cat')):
        StrictResumeHook('w.pth').after_load_checkpoint(runner, dict(checkpoint))
    said = []
    runner.logger = SimpleNamespace(info=lambda line: None, warning=said.append)
    StrictLoadHook('w.pth').after_load_checkpoint(runner, dict(checkpoint))
    assert len(said) == 1 and 'dog, cat' in said[0]


@pytest.mark.parametrize(('epoch', 'complete'), [(1, False), (2, True)])
def test_the_end_of_a_run_of_epochs(source, epoch, complete):
    """With another batch size, the number of iterations does not count."""
    said = []
    runner = runner_of(Whole())
    runner.logger = SimpleNamespace(info=lambda line: None, warning=said.append)
    runner.train_loop, runner.max_epochs = object.__new__(EpochBasedTrainLoop), 2
    checkpoint = dict(
        meta=dict(META, iter=1000, epoch=epoch),
        message_hub={},
        optimizer=EMPTY,
        state_dict=dict(source.state_dict()),
    )
    StrictResumeHook('w.pth').after_load_checkpoint(runner, checkpoint)
    assert len(said) == complete


def test_resume_of_another_model(source):
    state = source.state_dict()
    with pytest.raises(CheckpointError, match=shows('w.pth', 'neck.linear.weight', '(2, 4)')):
        resume(Whole(), {**state, 'neck.linear.weight': torch.ones(2, 4)})
    with pytest.raises(CheckpointError, match=shows(196, 'extra', '--resume')):
        resume(Whole(), {**state, 'extra': torch.ones(1)})


def test_resume_of_weights_alone(source, write):
    checkpoint = read_checkpoint(write(source.state_dict()))
    with pytest.raises(CheckpointError, match=shows('message_hub, optimizer', 'load_from')):
        StrictResumeHook('w.pth').after_load_checkpoint(runner_of(Whole()), checkpoint)


class Redrawn(BaseModel):
    """Initialise a part again after the initialisers, as mmdet's DINO and Deformable DETR do."""

    def __init__(self, classes=2):
        super().__init__()
        self.transformer = nn.Linear(3, classes)

    def init_weights(self):
        super().init_weights()
        nn.init.zeros_(self.transformer.weight)

    def forward(self, inputs, mode):
        return dict(loss=self.transformer(inputs).sum())


class Start(Hook):
    """Record the initial model and its averages."""

    def before_train(self, runner):
        (ema,) = (hook.ema_model for hook in runner.hooks if hasattr(hook, 'ema_model'))
        self.steps = ema.steps.item()
        self.found = [copy.deepcopy(m.state_dict()) for m in (runner.model, ema.module)]


def begin_with(model, path, work_dir, scope='mmengine'):
    start = Start()
    runner = Runner(
        model,
        str(work_dir),
        dict(
            batch_size=2,
            dataset=[torch.ones(3)] * 2,
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        train_cfg=dict(by_epoch=False, max_iters=1),
        load_from=str(path),
        experiment_name='weights',
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
        default_scope=scope,
        custom_hooks=[
            dict(type='EMAHook'),
            start,
            dict(type='finola_mm.StrictLoadHook', path=str(path)),
        ],
    )
    model.train_step = lambda data, optim_wrapper: {}
    runner.train()
    return start


@pytest.mark.parametrize('scope', ['mmengine', 'mmpretrain'])
def test_a_run_begins_with_the_averages_of_another(tmp_path, scope):
    """The run's own averages restart."""
    averages, own = randomized(Redrawn()).state_dict(), randomized(Redrawn()).state_dict()
    ema = {'steps': torch.tensor(9), **{f'module.{key}': value for key, value in own.items()}}
    file = tmp_path / 'w.pth'
    torch.save(dict(meta=META, state_dict=averages, ema_state_dict=ema), file)
    start = begin_with(Redrawn(), file, tmp_path / 'run', scope)
    assert start.steps == 0
    for found in start.found:
        torch.testing.assert_close(found, averages, rtol=0, atol=0)


def test_load_from_another_model(write, tmp_path):
    file = write(Redrawn().state_dict())
    with pytest.raises(CheckpointError, match=shows('transformer.weight', '(2, 3)', '(5, 3)')):
        begin_with(Redrawn(classes=5), file, tmp_path / 'run')


def test_load_from_the_other_dynamic_relu(write):
    state = Whole().state_dict()
    path = write(state)
    model = Whole()
    model.backbone = MobileFormer('small', dynamic_relu='spatial')
    with pytest.raises(CheckpointError, match="dynamic_relu='plain'"):
        StrictLoadHook('w.pth').after_load_checkpoint(runner_of(model), read_checkpoint(path))
