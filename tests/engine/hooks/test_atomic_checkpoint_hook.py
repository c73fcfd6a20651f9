"""A run that is killed at any moment of saving resumes from a complete checkpoint.

The kills are real: a forked process exits immediately before or after its k-th change on the disk.
"""

import os
import re
import shutil
import traceback
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.fileio import LocalBackend
from mmengine.fileio.backends import registry_utils
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner
from mmengine.runner.checkpoint import load_from_local
from mmpretrain.evaluation import metrics as mmpretrain_metrics
from torch import nn
from torch.utils.data import Dataset

from finola_mm.engine import (
    AtomicCheckpointHook,
    checkpoint_metadata,
    find_latest_valid_checkpoint,
    read_checkpoint,
)
from finola_mm.engine.hooks.atomic_checkpoint_hook import run_metadata
from finola_mm.errors import UserError
from finola_mm.evaluation import ImageQuality, MaskedPSNR
from finola_mm.registry import MODELS
from tests.conftest import ROOT
from tests.messages import shows

ITERATIONS, INTERVAL = 6, 2
CHANGES = ('fsync', 'replace', 'remove', 'unlink')  # of os


@MODELS.register_module(force=True)
class OneWeight(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))

    def forward(self, x, mode):
        if mode == 'loss':
            return dict(loss=((self.weight - torch.rand(3)) * sum(x)).square().sum())
        return [{}]


class Numbers(Dataset):
    """Samples that are a function of their index."""

    def __len__(self):
        return 2 * ITERATIONS

    def __getitem__(self, key):
        return dict(x=torch.tensor(float(getattr(key, 'sample_idx', key))))


class Given(BaseMetric):
    """Given values for successive validations."""

    def __init__(self, values=()):
        super().__init__()
        self.values = list(values)

    def process(self, data_batch, data_samples):
        self.results.append(None)

    def compute_metrics(self, results):
        return dict(score=self.values.pop(0), other=1.0)


def train(folder, *, resume=False, scores=(), **checkpoint):
    """Train in ``folder`` to the end; return the weights.

    resume: True for the checkpoints in ``folder``, or another folder.
    """
    loader = dict(batch_size=2, sampler=dict(type='finola_mm.SeededSampler'), num_workers=0)
    validation = dict(
        val_cfg=dict(type='ValLoop'),
        val_dataloader=dict(loader, dataset=Numbers()),
        val_evaluator=[Given(scores)],
    )
    found = find_latest_valid_checkpoint(folder if resume is True else resume) if resume else None
    runner = Runner(
        OneWeight(),
        str(folder),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=ITERATIONS, val_interval=INTERVAL),
        train_dataloader=dict(loader, dataset=Numbers()),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        default_hooks=dict(
            checkpoint=dict(
                type='finola_mm.AtomicCheckpointHook',
                interval=INTERVAL,
                by_epoch=False,
                **checkpoint,
            )
        ),
        custom_hooks=[dict(type='finola_mm.SeedIterationHook')],
        randomness=dict(seed=0),
        load_from=found and found.path,
        resume=found is not None,
        log_level='ERROR',
        experiment_name=f'{folder.name}_{bool(resume)}',
        **(validation if scores else {}),
    )
    runner.train()
    return runner.model.weight.detach().clone()


def in_a_process(work, *args, **kwargs) -> int:
    """Return the exit status of ``work`` in a fork of this process."""
    child = os.fork()
    if not child:
        try:
            work(*args, **kwargs)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def train_and_die(folder, moment, **kwargs):
    """Exit immediately before change number ``moment`` / 2, or after it."""
    made = 0

    def dying(change):
        def changed(*args, **options):
            nonlocal made
            for after in (False, True):
                if made == moment:
                    os._exit(9)
                made += 1
                result = None if after else change(*args, **options)
            return result

        return changed

    for name in CHANGES:
        setattr(os, name, dying(getattr(os, name)))
    train(folder, **kwargs)


def checkpoints(folder):
    return sorted(file.name for file in folder.glob('*.pth'))


@pytest.mark.parametrize(('keep', 'step'), [(1, 1), (2, 5)])
def test_killed_at_every_moment(tmp_path, keep, step):
    whole = train(tmp_path / 'whole', max_keep_ckpts=keep)
    kept = ['iter_4.pth', 'iter_6.pth'][-keep:]
    assert checkpoints(tmp_path / 'whole') == kept
    for moment in range(0, 1000, step):
        folder = tmp_path / f'killed_{moment}'
        if in_a_process(train_and_die, folder, moment, max_keep_ckpts=keep) == 0:
            break
        before = checkpoints(folder)
        assert len(before) <= keep + 1
        if before:  # the newest is complete, and is resumed
            assert Path(find_latest_valid_checkpoint(folder).path).name == before[-1]
        assert torch.equal(train(folder, resume=True, max_keep_ckpts=keep), whole)
        assert checkpoints(folder) == kept and not list(folder.glob('.*.unfinished'))
    assert moment >= 2 * 3 * 6  # six changes for each of three checkpoints, at least


def test_an_unbounded_number_is_possible(tmp_path):
    train(tmp_path)
    assert checkpoints(tmp_path) == ['iter_2.pth', 'iter_4.pth', 'iter_6.pth']


@pytest.mark.parametrize('metrics', ['score', ['score', 'other']])
def test_the_best_is_kept_until_a_better_one_is_complete(tmp_path, monkeypatch, metrics):
    seen, fsync = [], os.fsync

    def watch(descriptor):
        seen.append({name for name in checkpoints(tmp_path) if name.startswith('best_score')})
        fsync(descriptor)

    monkeypatch.setattr(os, 'fsync', watch)
    rule = 'greater'
    train(tmp_path, scores=[0.1, 0.3, 0.2], save_best=metrics, rule=rule, max_keep_ckpts=1)
    first, second = {'best_score_iter_2.pth'}, {'best_score_iter_4.pth'}
    assert first in seen and second in seen
    assert all(first <= best or second <= best for best in seen[seen.index(first) :])
    others = {'best_other_iter_2.pth'} if metrics != 'score' else set()
    assert set(checkpoints(tmp_path)) == {*second, *others, 'iter_6.pth'}


@pytest.mark.parametrize('metrics', ['score', ['score', 'other']])
def test_the_best_of_a_resumed_run(tmp_path, metrics):
    """In another folder, in a copy, and in its own folder by another path."""

    def best(folder):
        return [name for name in checkpoints(folder) if 'best_score' in name]

    options, old, new = dict(save_best=metrics, rule='greater'), tmp_path / 'old', tmp_path / 'new'
    train(old, scores=[0.1, 0.3, 0.2], **options)
    for name in ('iter_6.pth', 'last_checkpoint'):
        (old / name).unlink()
    shutil.copytree(old, tmp_path / 'copy')
    train(new, resume=old, scores=[0.4], **options)
    assert (best(old), best(new)) == (['best_score_iter_4.pth'], ['best_score_iter_6.pth'])
    train(tmp_path / 'copy', resume=True, scores=[0.4], **options)
    assert best(tmp_path / 'copy') == best(new) and best(old) == ['best_score_iter_4.pth']
    train(old / '..' / 'old', resume=True, scores=[0.4], **options)
    assert best(old) == ['best_score_iter_6.pth']


def test_the_hook_itself_registers_checkpoint_io(tmp_path, monkeypatch, checkpoint_io):
    """Also under a tool that does not call ``register_checkpoint_io``."""
    monkeypatch.setitem(registry_utils.backends, 'local', LocalBackend)
    monkeypatch.setitem(registry_utils.prefix_to_backends, '', LocalBackend)
    CheckpointLoader._schemes[''] = load_from_local
    written, replace = [], Path.replace
    monkeypatch.setattr(Path, 'replace', lambda a, b: (written.append(b.name), replace(a, b))[1])
    train(tmp_path)
    files = [f'iter_{i}.pth' for i in (2, 4, 6)]
    assert written == [name for file in files for name in (file, 'last_checkpoint')]
    assert CheckpointLoader._schemes[''] is read_checkpoint


BACKBONE = dict(
    type='finola_mm.MobileFormer',
    arch='small',
    out_indices=(2, 4),
    init_cfg=dict(type='finola_mm.Pretrained', checkpoint='elsewhere.pth'),
    frozen_stages=2,
    with_cp=True,
)
RECORDED = dict(type='finola_mm.MobileFormer', arch='small', out_indices=[2, 4])
IMAGES = dict(mean=[1.5, 2, -3], std=(4, 5, 6))


@pytest.mark.parametrize(
    'config',
    [
        dict(model=dict(backbone=BACKBONE, data_preprocessor=dict(IMAGES, bgr_to_rgb=True))),
        dict(model=dict(backbone=BACKBONE), data_preprocessor=dict(IMAGES, to_rgb=True)),
    ],
)
def test_the_metadata_of_a_run(config, tmp_path):
    """Plain values without arguments of training; also for checkpoints of other hooks."""
    cfg, checkpoint = Config(config), dict(meta=dict(iter=3))
    runner = SimpleNamespace(cfg=cfg, experiment_name='a_config_20260102', timestamp='20260102')
    AtomicCheckpointHook().before_save_checkpoint(runner, checkpoint)
    torch.save(checkpoint, tmp_path / 'w.pth')
    assert checkpoint_metadata(read_checkpoint(tmp_path / 'w.pth')) == dict(
        source='a_config',
        iter=3,
        encoder=RECORDED,
        normalization=dict(mean=[1.5, 2, -3], std=[4, 5, 6], to_rgb=True),
    )


def test_the_metadata_of_a_run_without_an_encoder_config(tmp_path):
    train(tmp_path)
    found = checkpoint_metadata(read_checkpoint(tmp_path / 'iter_2.pth'))
    assert found['iter'] == 2 and found['encoder'] == found['normalization'] == {}
    cfg = Config(dict(model=dict(backbone=dict(type='X', norm=nn.LayerNorm, of=object()))))
    runner = SimpleNamespace(cfg=cfg, experiment_name='x', timestamp='y')
    assert run_metadata(runner)['encoder']['norm'] == 'LayerNorm'


@pytest.mark.parametrize(
    'step, expected',
    [
        (dict(type='mmpretrain.CenterCrop', crop_size=96), dict(input_size=96)),
        (dict(type=nn.Identity, crop_size=96), {}),  # a class, as in configs of pure Python
    ],
)
def test_the_input_size(step, expected):
    cfg = Config(dict(model={}, test_pipeline=[dict(type=nn.Flatten), step]))
    found = run_metadata(SimpleNamespace(cfg=cfg, experiment_name='x', timestamp='y'))
    assert {key: found[key] for key in found if key == 'input_size'} == expected


def names_the_hook(path):
    """Whether a config or one of its base configs does."""
    text = path.read_text()
    bases = re.findall(r"'([^':]+\.py)'", text.partition('_base_ = ')[2].partition(']')[0])
    return 'finola_mm.AtomicCheckpointHook' in text or any(
        names_the_hook(path.parent / base) for base in bases
    )


def test_every_config_has_it_and_bounds_the_number():
    for path in ROOT.glob('configs/**/*.py'):
        assert path.parent.name == '_base_' or names_the_hook(path), path
        assert "'CheckpointHook'" not in path.read_text(), path
    for name in (
        'selfsup/masked_finola_b',
        'classification/lin',
        'det/detr_mf_dec522',
        'det/dino_mf',
        'study/reconstruction',
    ):
        checkpoint = Config.fromfile(ROOT / f'configs/{name}.py').default_hooks.checkpoint
        assert checkpoint.type == 'finola_mm.AtomicCheckpointHook'
        assert 1 <= checkpoint.max_keep_ckpts <= 3


def evaluators():
    """Evaluators of the recipes, and all metrics that they report for fake results."""
    masked, quality = MaskedPSNR(), ImageQuality(lpips=False, per_folder=True)
    accuracy = mmpretrain_metrics.Accuracy(topk=(1, 5))
    scores = dict(pred_score=torch.rand(9), gt_label=torch.tensor([0]))
    return [
        (masked, masked.compute_metrics([[20.0, 15.0]])),
        (quality, quality.compute_metrics([('cat', [20.0, 0.5])])),
        (accuracy, accuracy.compute_metrics([scores])),
        (CocoMetric(), ['bbox_mAP', 'bbox_mAP_50', 'bbox_mAP_s']),  # as in docs/results.md
    ]


def run_with(*metrics):
    """What before_train reads of a runner."""
    evaluator = SimpleNamespace(metrics=metrics)
    return SimpleNamespace(
        val_loop=SimpleNamespace(evaluator=evaluator),
        work_dir='none',
        logger=SimpleNamespace(info=lambda text: None),
        message_hub=SimpleNamespace(runtime_info={}),
    )


@pytest.mark.parametrize('case', range(4))
def test_the_metric_of_save_best_is_known_before_the_first_step(case):
    metric, names = evaluators()[case]
    names = [f'{metric.prefix}/{name}' for name in names]
    for name in ('auto', *names):
        # The rule follows from the name.
        AtomicCheckpointHook(save_best=name).before_train(run_with(metric))
    for wrong in (names[0].partition('/')[2], 'knn/top1', f'{names[0]}x'):
        hook = AtomicCheckpointHook(save_best=wrong, rule='greater')
        with pytest.raises(UserError, match=shows(f'save_best={wrong}', f'{metric.prefix}/')):
            hook.before_train(run_with(metric))
        hook.before_train(run_with(metric, Given()))  # Given has no prefix: any name is possible


def test_save_best_without_validation():
    hook = AtomicCheckpointHook(save_best='knn/top1', rule='greater')
    hook.before_train(SimpleNamespace(**{**vars(run_with()), 'val_loop': None}))


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        (dict(save_best='my_metric'), 'my_metric'),  # no rule
        (dict(save_best='masked/psnr', rule='bigger'), 'bigger'),
        (dict(save_best=True), 'bool'),
    ],
)
def test_settings_of_save_best(settings, said):
    with pytest.raises(UserError, match=said):
        AtomicCheckpointHook(**settings)


def test_a_misspelt_setting_is_known_at_the_start():
    """MMEngine keeps it until the first save."""
    with pytest.raises(UserError, match=shows('max_keep_ckpt', 'max_keep_ckpts')):
        AtomicCheckpointHook(max_keep_ckpt=2)


def test_a_metric_that_the_first_validation_does_not_report(tmp_path):
    """An evaluator without declared names."""
    with pytest.raises(UserError, match=shows('save_best=scores', 'score, other')):
        train(tmp_path, scores=[0.1, 0.3, 0.2], save_best='scores', rule='greater')
