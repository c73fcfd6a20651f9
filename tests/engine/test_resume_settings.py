"""A resumed run uses the settings of its config: its learning rates follow the closed formulas."""

import math
from itertools import count

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from finola_mm.engine import CheckpointError
from tests.messages import shows

NUMBER = count()


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(3, 1)

    def forward(self, inputs, mode):
        return dict(loss=(self.line(inputs) ** 2).mean())


class Samples(list):
    def __getitem__(self, key):
        return dict(inputs=torch.ones(3))


class Recorder(Hook):
    """Record the settings with which each step is made, and the warnings of the log."""

    priority = 'LOWEST'

    def before_run(self, runner):
        self.warned, self.steps = [], {}
        warn = runner.logger.warning
        runner.logger.warning = lambda text, *args: (self.warned.append(text), warn(text, *args))

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        names = ('lr', 'weight_decay', 'betas', 'momentum', 'amsgrad')
        groups = runner.optim_wrapper.optimizer.param_groups
        self.steps[runner.iter] = [{n: g[n] for n in names if n in g} for g in groups]

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.wrapper = runner.optim_wrapper


ADAMW = dict(type='AdamW', lr=0.1, weight_decay=0.05)
ITERATIONS = dict(type='IterBasedTrainLoop', max_iters=6)


def cosine(length, warmup=2, **settings):
    return [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=warmup),
        dict(
            type='CosineAnnealingLR',
            T_max=length - warmup,
            by_epoch=False,
            begin=warmup,
            end=length,
            **settings,
        ),
    ]


def rate(step, length, lr=0.1, warmup=2, eta_min=0.0):
    """The learning rate of a linear warm-up and a cosine, in closed form."""
    if step < warmup - 1:
        return lr * (0.1 + 0.9 * step / (warmup - 1))
    position = (step - warmup) / (length - warmup) if step >= warmup else 0
    return eta_min + (lr - eta_min) * (1 + math.cos(math.pi * position)) / 2


@pytest.fixture
def train(tmp_path):
    """Train on batches of 2; -> steps, and checkpoints named after the iteration in 'work_dir'."""

    def train(
        work_dir,
        *,
        resume=None,
        loop=ITERATIONS,
        schedule=None,
        optimizer=ADAMW,
        images=8,
        scale=None,
        interval=3,
        by_epoch=False,
        **wrapper,
    ):
        torch.manual_seed(0)
        recorder = Recorder()
        hooks = [recorder]
        path = resume and str(tmp_path / resume)
        if path:
            hooks.append(dict(type='finola_mm.StrictResumeHook', path=path))
        infinite = loop['type'] == 'IterBasedTrainLoop'
        Runner(
            Line(),
            str(tmp_path / work_dir),
            dict(
                batch_size=2,
                dataset=Samples(range(images)),
                collate_fn=dict(type='default_collate'),
                sampler=dict(type='InfiniteSampler' if infinite else 'finola_mm.SeededSampler'),
            ),
            train_cfg=dict(loop),
            load_from=path,
            resume=bool(path),
            experiment_name=f'resume_{next(NUMBER)}',
            optim_wrapper=dict(optimizer=dict(optimizer), **wrapper),
            param_scheduler=cosine(6) if schedule is None else schedule,
            auto_scale_lr=scale,
            default_scope='mmengine',
            default_hooks=dict(
                checkpoint=dict(
                    type='finola_mm.AtomicCheckpointHook',
                    interval=interval,
                    by_epoch=by_epoch,
                    filename_tmpl='{}.pth',
                )
            ),
            custom_hooks=hooks,
            randomness=dict(seed=0),
        ).train()
        return recorder

    return train


def rates(recorder, group=0):
    return {step: groups[group]['lr'] for step, groups in recorder.steps.items()}


def approx(function, steps):
    return pytest.approx({step: function(step) for step in steps}, rel=1e-6, abs=1e-12)


def own_warnings(recorder):
    return [line for line in recorder.warned if '.pth' in str(line)]


def test_the_formula_is_that_of_a_run(train):
    assert rates(train('a')) == approx(lambda step: rate(step, 6), range(6))


def test_the_same_settings_continue_without_a_word(train):
    whole = train('a')
    resumed = train('b', resume='a/3.pth')
    assert resumed.steps == {step: whole.steps[step] for step in (3, 4, 5)}
    assert not own_warnings(resumed)
    longer = train('c', resume='a/3.pth', loop=dict(ITERATIONS, max_iters=8))
    assert rates(longer)[7] == rates(longer)[6] and not own_warnings(longer)


def test_another_learning_rate(train):
    train('a')
    resumed = train('b', resume='a/3.pth', optimizer=dict(ADAMW, lr=1e-6))
    assert rates(resumed) == approx(lambda step: rate(step, 6, lr=1e-6), (3, 4, 5))
    (line,) = own_warnings(resumed)
    assert all(value in line for value in ('lr', '0.1', '1e-06'))
    # Its own checkpoint has the new rate: nothing differs any more.
    again = train(
        'c',
        resume='b/6.pth',
        optimizer=dict(ADAMW, lr=1e-6),
        loop=dict(ITERATIONS, max_iters=7),
    )
    assert not own_warnings(again)


def test_a_learning_rate_without_a_schedule(train):
    train('a', schedule=[])
    resumed = train('b', resume='a/3.pth', schedule=[], optimizer=dict(ADAMW, lr=1e-6))
    assert set(rates(resumed).values()) == {1e-6}


def test_a_longer_schedule(train):
    train('a')
    resumed = train('b', resume='a/3.pth', schedule=cosine(10), loop=dict(ITERATIONS, max_iters=10))
    assert rates(resumed) == approx(lambda step: rate(step, 10), range(3, 10))
    assert all(value in own_warnings(resumed)[0] for value in ('T_max 4 -> 8', 'end 6 -> 10'))


@pytest.mark.parametrize('schedule', [cosine(6, eta_min=0.01), cosine(6, warmup=4), cosine(6)[1:]])
def test_another_schedule(train, schedule):
    """It continues as a run that had it from its first step."""
    whole = train('whole', schedule=schedule)
    train('a')
    resumed = train('b', resume='a/3.pth', schedule=schedule)
    assert rates(resumed) == {step: rates(whole)[step] for step in (3, 4, 5)}
    assert own_warnings(resumed)


def test_a_schedule_that_is_removed(train):
    train('a')
    resumed = train('b', resume='a/3.pth', schedule=[])
    assert set(rates(resumed).values()) == {0.1} and own_warnings(resumed)


@pytest.mark.parametrize(('name', 'value'), [('weight_decay', 0.2), ('betas', (0.5, 0.6))])
def test_other_settings_of_the_optimizer(train, name, value):
    train('a')
    resumed = train('b', resume='a/3.pth', optimizer={**ADAMW, name: value})
    assert {step[0][name] for step in resumed.steps.values()} == {value}
    assert rates(resumed) == approx(lambda step: rate(step, 6), (3, 4, 5))
    assert name in own_warnings(resumed)[0]
    # The moments are those of the checkpoint, not new ones.
    assert resumed.wrapper.optimizer.state_dict()['state'][0]['step'] == 6


def test_groups_of_parameters(train):
    """The bias is trained at a tenth of the rate; MMEngine logs the base rate of a third group."""
    slow = dict(paramwise_cfg=dict(custom_keys=dict(bias=dict(lr_mult=0.1))))
    train('a', **slow)
    resumed = train('b', resume='a/3.pth', optimizer=dict(ADAMW, lr=0.02), **slow)
    for group, factor in enumerate((1, 0.1)):
        expected = approx(lambda step, lr=0.02 * factor: rate(step, 6, lr=lr), (3, 4, 5))
        assert rates(resumed, group) == expected
    assert resumed.wrapper.base_param_settings['initial_lr'] == 0.02


def test_a_scaled_learning_rate(train):
    """2 images per step over a base of 16."""
    scale = dict(base_batch_size=16, enable=True)
    train('a')
    resumed = train('b', resume='a/3.pth', scale=scale)
    assert rates(resumed) == approx(lambda step: rate(step, 6, lr=0.1 / 8), (3, 4, 5))
    again = train('c', resume='b/6.pth', scale=scale, loop=dict(ITERATIONS, max_iters=7))
    assert not own_warnings(again)


def test_another_number_of_iterations_per_epoch(train):
    """8 images, then 12: after one epoch of 4 iterations come two of 6."""
    loop = dict(type='finola_mm.ExactEpochLoop', max_epochs=3)
    schedule = [dict(type='CosineAnnealingLR', T_max=3, begin=0, end=3, convert_to_iter_based=True)]
    save = dict(interval=1, by_epoch=True, loop=loop, schedule=schedule)
    train('a', **save)
    resumed = train('b', resume='a/1.pth', images=12, **save)
    assert rates(resumed) == approx(lambda step: rate(step, 18, warmup=0), range(6, 18))


@pytest.mark.parametrize('iteration', [6, 8, 9])  # within an epoch, at its end, and in the next
def test_epochs_and_iterations_in_one_schedule(train, iteration):
    """Steps by epoch after a warm-up by iteration, recomputed in epochs of 4 iterations."""
    loop = dict(type='finola_mm.ExactEpochLoop', max_epochs=3)

    def schedule(gamma):
        return [cosine(6)[0], dict(type='StepLR', step_size=1, gamma=gamma, by_epoch=True)]

    train('a', loop=loop, schedule=schedule(0.1), interval=1)
    resumed = train('b', resume=f'a/{iteration}.pth', loop=loop, schedule=schedule(0.5))
    assert rates(resumed) == approx(lambda step: 0.1 * 0.5 ** (step // 4), range(iteration, 12))


def test_a_scheduled_momentum(train):
    """MMEngine schedules Adam's first beta in an additional entry of the groups."""
    schedule = [*cosine(6), dict(type='LinearMomentum', start_factor=0.5, by_epoch=False, end=6)]
    whole = train('a', schedule=schedule)
    resumed = train('b', resume='a/3.pth', schedule=schedule)
    assert resumed.steps == {step: whole.steps[step] for step in (3, 4, 5)}
    assert not own_warnings(resumed)
    other = dict(ADAMW, betas=(0.8, 0.99))
    whole = train('c', schedule=schedule, optimizer=other)
    resumed = train('d', resume='a/3.pth', schedule=schedule, optimizer=other)
    assert resumed.steps == {step: whole.steps[step] for step in (3, 4, 5)}


def test_a_checkpoint_without_schedules(train, tmp_path):
    """MMEngine would start them again from their first step."""
    train('a')
    checkpoint = torch.load(tmp_path / 'a/3.pth', weights_only=False)
    del checkpoint['param_schedulers']
    torch.save(checkpoint, tmp_path / 'a/3.pth')
    resumed = train('b', resume='a/3.pth')
    assert rates(resumed) == approx(lambda step: rate(step, 6), (3, 4, 5))


def test_flags_of_another_torch_version(train, tmp_path):
    train('a')
    checkpoint = torch.load(tmp_path / 'a/3.pth', weights_only=False)
    (group,) = checkpoint['optimizer']['param_groups']
    group.pop('maximize')
    group['a_flag'] = False
    torch.save(checkpoint, tmp_path / 'a/3.pth')
    assert not own_warnings(train('b', resume='a/3.pth'))


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (dict(optimizer=dict(type='SGD', lr=0.1)), ('betas', 'momentum')),
        (dict(optimizer=dict(ADAMW, amsgrad=True)), ('amsgrad',)),
        (dict(paramwise_cfg=dict(bias_decay_mult=0.0)), ('1 groups', '2', '2 parameters')),
    ],
)
def test_another_optimizer_is_refused(train, change, said):
    train('a')
    with pytest.raises(CheckpointError, match=shows('a/3.pth', *said, 'load_from')):
        train('b', resume='a/3.pth', **change)


def test_a_schedule_by_metrics(train):
    """What it did so far cannot be recomputed for other settings: they are kept, and it says so."""
    plateau = dict(type='ReduceOnPlateauLR', monitor='loss', patience=1)
    train('a', schedule=[plateau])
    resumed = train('b', resume='a/3.pth', schedule=[plateau], optimizer=dict(ADAMW, lr=1e-6))
    assert set(rates(resumed).values()) == {0.1} and own_warnings(resumed)
