"""The classification configs: sizes, settings of Table 13, what is frozen, rates by layer, MoCo."""

from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS, TRANSFORMS
from torch.utils.flop_counter import FlopCounterMode

from finola_mm.backbones.mobile_former import FAMILY as MEMBERS
from finola_mm.datasets import nest_arguments
from finola_mm.functional.compat import math_attention

ROOT = Path(__file__).parents[2]
SUFFIXES = ('', '_w1440', '_w720')
NAMES = ('lin', 'tran1', 'tran1_ft', 'tran4_ft', 'supervised')
LOW_SHOT = ('lin_1pct', 'lin_10pct', 'tran1_ft_1pct', 'tran1_ft_10pct')
CONFIGS = [f'classification/{name}{suffix}' for name in NAMES for suffix in SUFFIXES]
CONFIGS += [f'classification/low_shot/{name}{suffix}' for name in LOW_SHOT for suffix in SUFFIXES]
FAMILY = [f'classification/mobile_former/{arch}' for arch in MEMBERS]
DEMOS = [f'demo/cls_{name}' for name in ('lin', 'tran1', 'tran1_ft', 'supervised')]
MOCO = [f'selfsup/mocov2{suffix}' for suffix in SUFFIXES]


@cache
def load(name):
    """A config and its model, without values."""
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        return cfg, MODELS.build(cfg.model)


def arch(name):
    if name in FAMILY:
        return Path(name).name
    return next((suffix[1:] for suffix in SUFFIXES[1:] if name.endswith(suffix)), 'w2880')


def test_every_config_is_known():
    found = {
        str(path.relative_to(ROOT / 'configs').with_suffix(''))
        for pattern in ('classification/**/*.py', 'demo/cls_*.py', 'selfsup/mocov2*.py')
        for path in (ROOT / 'configs').glob(pattern)
    }
    assert found == {*CONFIGS, *FAMILY, *DEMOS, *MOCO}


@pytest.mark.parametrize(
    'name, params, madds',
    [
        # M and G at 224 x 224, counted from the paper's structure; published figures beside them.
        ('lin_w720', 5.87, 0.276),  # 5.8 M
        ('lin_w1440', 13.50, 0.982),  # 14 M
        ('lin', 28.24, 3.668),  # 28 M
        ('tran1_w720', 5.92, 0.405),
        ('tran1_w1440', 14.77, 1.468),
        ('tran1', 35.43, 5.549),
        ('tran4_ft_w720', 7.26, 0.709),  # 7 M, 0.7 G
        ('tran4_ft_w1440', 20.09, 2.597),  # 20 M, 2.6 G
        ('tran4_ft', 56.70, 9.888),  # 57 M, 9.9 G
    ],
)
def test_counts(name, params, madds):
    cfg = load(f'classification/{name}')[0].model
    with torch.device('meta'):
        model = MODELS.build(cfg).eval().requires_grad_(False)
        with FlopCounterMode(display=False) as counter, math_attention():
            assert model(torch.empty(1, 3, 224, 224)).shape == (1, 1000)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(params, abs=0.006)
    assert counter.get_total_flops() / 2e9 == pytest.approx(madds, rel=0.005)


@pytest.mark.parametrize('name', [*CONFIGS, *FAMILY[:2], *DEMOS])
def test_model_and_pipelines_build_and_fit(name):
    cfg, model = load(name)
    assert cfg.model.backbone.arch == ('small' if 'demo' in name else arch(name))
    classes = 12 if 'demo' in name else 1000
    assert model.head.fc.out_features == classes == model.data_preprocessor.num_classes
    widths = model.backbone.out[0].out_channels, model.backbone.tokens.shape[1]
    maps, tokens = torch.empty(2, widths[0], 2, 2), torch.empty(2, 6, widths[1])
    assert model.head(((maps.to('meta'),), tokens.to('meta'))).shape == (2, classes)
    for transform in (*cfg.train_pipeline, *cfg.test_pipeline):
        TRANSFORMS.build(transform)
    for split, pipeline in (
        ('train', cfg.train_pipeline),
        ('val', cfg.test_pipeline),
        ('test', cfg.test_pipeline),
    ):
        dataset = nest_arguments(cfg[f'{split}_dataloader'].dataset)
        assert dataset.dataset.pipeline == pipeline


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_linear_probing_of_table_13(suffix):
    cfg, model = load(f'classification/lin{suffix}')
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.weight_decay) == ('SGD', 0)
    assert optimizer.lr == pytest.approx(0.1 * 4096 / 256)
    assert cfg.train_cfg.max_epochs == 90
    assert [t.type for t in cfg.train_pipeline] == [
        'finola_mm.LoadRandomResizedCrop',
        'RandomFlip',
        'mmpretrain.PackInputs',
    ]
    assert model.head.norm.affine is False
    assert cfg.model.backbone.frozen_stages == 5


@pytest.mark.parametrize(
    'suffix, width, dropout, erasing',
    [
        ('', 768, 0.2, [0.25]),
        ('_w1440', 384, 0.2, []),
        ('_w720', 192, 0.1, []),
    ],
)
@pytest.mark.parametrize('name', ['tran1', 'tran1_ft', 'tran4_ft', 'supervised'])
def test_the_transformer_decoders_of_table_13(name, suffix, width, dropout, erasing):
    cfg, model = load(f'classification/{name}{suffix}')
    steps = {t.type: t for t in cfg.train_pipeline}
    assert [
        t.erase_prob for t in cfg.train_pipeline if t.type == 'mmpretrain.RandomErasing'
    ] == erasing
    assert (
        steps['mmpretrain.RandAugment'].magnitude_level,
        steps['mmpretrain.RandAugment'].magnitude_std,
    ) == (9, 0.5)
    assert model.head.embed.out_features == width
    assert model.head.dropout.p == dropout
    assert len(model.head.blocks) == (4 if name == 'tran4_ft' else 1)
    assert cfg.model.head.loss.label_smooth_val == 0.1
    assert cfg.optim_wrapper.optimizer.weight_decay == 0.1
    assert cfg.model.backbone.frozen_stages == (5 if name == 'tran1' else -1)
    if name == 'tran1':
        assert cfg.optim_wrapper.optimizer.lr == pytest.approx(5e-4 * 4096 / 256)
        assert cfg.train_cfg.max_epochs == 200
        assert 'train_cfg' not in cfg.model  # no mixup
    else:
        assert cfg.model.train_cfg.augments == [dict(type='finola_mm.Mixup', alpha=0.2)]


@pytest.mark.parametrize('name', [*CONFIGS, FAMILY[0], *MOCO])
def test_batches_and_schedules_agree(name):
    """--auto-scale-lr scales from the batch that the learning rate is written for."""
    cfg, _ = load(name)
    base = {
        '508m': 2.5e-4,
        'lin': 0.1,
        'tran1_ft': 5e-4,
        'tran4_ft': 5e-4,
        'tran1': 5e-4,
        'supervised': 2.5e-4,
        'mocov2': 0.03,
    }
    family = max((key for key in base if Path(name).name.startswith(key)), key=len)
    batch = cfg.auto_scale_lr.base_batch_size
    assert batch == 8 * cfg.train_dataloader.batch_size
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(base[family] * batch / 256)
    *warmup, cosine = cfg.param_scheduler
    assert [s.end for s in warmup] == ([cosine.begin] if cosine.begin else [])
    assert cosine.begin + cosine.T_max == cosine.end == cfg.train_cfg.max_epochs


@pytest.mark.parametrize('name', [*DEMOS, 'demo/mocov2'])
def test_demo_batches_agree(name):
    cfg, _ = load(name)
    assert cfg.auto_scale_lr.base_batch_size == cfg.train_dataloader.batch_size
    assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_iters


@pytest.mark.parametrize('name', LOW_SHOT)
def test_the_remedy_names_the_root_and_the_share_of_the_list(name, monkeypatch):
    monkeypatch.setenv('FINOLA_IMAGENET', '/my/images')
    cfg = Config.fromfile(ROOT / f'configs/classification/low_shot/{name}.py')
    share = name.rpartition('_')[2].removesuffix('pct')
    assert cfg.missing_data_hint.endswith(f'draw_low_shot.py /my/images/train {share}')


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_where_fine_tuning_starts(suffix):
    probe = f'work_dirs/tran1{suffix}'
    assert load(f'classification/tran1_ft{suffix}')[0].load_from == probe
    cfg, _ = load(f'classification/tran4_ft{suffix}')
    assert cfg.load_from is None
    assert cfg.model.init_cfg == dict(
        type='finola_mm.Pretrained',
        checkpoint=probe,
        allow_missing=['head.blocks.1.*', 'head.blocks.2.*', 'head.blocks.3.*'],
    )
    for share in (1, 10):
        cfg, _ = load(f'classification/low_shot/tran1_ft_{share}pct{suffix}')
        assert cfg.load_from is None  # the probe has seen all labels
        encoder = f'work_dirs/masked_finola_b{suffix}'
        assert cfg.model.backbone.init_cfg == dict(type='finola_mm.Pretrained', checkpoint=encoder)
        ann_file = cfg.train_dataloader.dataset.dataset.ann_file
        assert ann_file == f'low_shot/train_{share}pct.txt'


def test_learning_rates_fall_by_layer():
    """Head 1, final convolution 0.75, the twelve blocks 0.75^2 ... 0.75^13, stem and tokens."""
    cfg, _ = load('classification/tran1_ft_w720')
    model = MODELS.build(cfg.model)
    groups = build_optim_wrapper(model, cfg.optim_wrapper.copy()).optimizer.param_groups
    blocks = ['0.0', '1.0', '1.1', '2.0', '2.1', '2.2', *(f'3.{i}' for i in range(6))]
    power = {'tokens': 14, 'stem': 14, 'out': 1}
    power |= {f'stages.{block}': 13 - i for i, block in enumerate(blocks)}
    seen = set()
    for group in groups:
        name = group['param_name']
        place = next(
            (p for p in power if name.startswith(f'backbone.{p}.') or name == f'backbone.{p}'),
            'head',
        )
        seen.add(place)
        assert group['lr'] == pytest.approx(2e-3 * 0.75 ** power.get(place, 0)), name
        decayed = group['params'][0].ndim > 1 and name != 'backbone.tokens'
        assert group['weight_decay'] == (0.1 if decayed else 0), name
    assert seen == {*power, 'head'}
    assert len(groups) == len(list(model.parameters()))


def without_scope(config):
    """A config as plain values, without the scopes that mmengine notes in what it inherits."""
    if isinstance(config, dict):
        return {key: without_scope(value) for key, value in config.items() if key != '_scope_'}
    if isinstance(config, (list, tuple)):
        return [without_scope(value) for value in config]
    return config


@cache
def host_mocov2():
    """mmpretrain's own MoCo v2, of ResNet-50."""
    return without_scope(
        get_config('mmpretrain::mocov2/mocov2_resnet50_8xb32-coslr-200e_in1k.py').to_dict()
    )


@pytest.mark.parametrize('name', MOCO)
def test_mocov2_is_mmpretrains_with_our_encoder(name):
    """On purpose they differ in the encoder, with the neck's width, in the rate, which falls at
    every step, and in data set, loader, sampler and loop, ours being for exact resume, plain
    folders and turned images.
    """
    (cfg, model), theirs = load(name), host_mocov2()
    ours = without_scope(cfg.to_dict())
    assert ours['model'].pop('backbone') == dict(type='finola_mm.MobileFormer', arch=arch(name))
    neck = dict(theirs['model']['neck'], in_channels=model.backbone.out[0].out_channels)
    assert neck.pop('with_avg_pool') is model.neck.with_avg_pool is True  # the neck's default
    preprocessor = dict(theirs['data_preprocessor'], type='finola_mm.SelfSupDataPreprocessor')
    expected = dict(theirs['model'], neck=neck, data_preprocessor=preprocessor)
    expected.pop('backbone')
    assert ours['model'] == expected  # head, queue_len, feat_dim, momentum
    assert ours['train_pipeline'][0] == dict(type='finola_mm.LoadImageFromFile')
    assert ours['train_pipeline'][1:] == theirs['train_pipeline'][1:]
    assert ours['optim_wrapper'] == theirs['optim_wrapper']
    (schedule,) = theirs['param_scheduler']
    assert ours['param_scheduler'] == [dict(schedule, convert_to_iter_based=True)]
    assert ours['train_cfg']['max_epochs'] == theirs['train_cfg']['max_epochs']
    assert ours['auto_scale_lr'] == theirs['auto_scale_lr']
    for key in ('batch_size', 'drop_last'):
        assert ours['train_dataloader'][key] == theirs['train_dataloader'][key]
    collate = theirs['train_dataloader']['collate_fn']
    assert ours['train_dataloader']['collate_fn'] == dict(type=f'finola_mm.{collate["type"]}')


def test_the_demos_mocov2_has_the_same_parts():
    """It differs in sizes: of the images, the encoder, the neck, the queue, and its momentum."""
    ours, theirs = without_scope(load('demo/mocov2')[0].to_dict()), host_mocov2()
    assert ours['model']['head'] == theirs['model']['head']
    assert ours['optim_wrapper']['optimizer'] == theirs['optim_wrapper']['optimizer']
    views, their_views = (cfg['train_pipeline'][1]['transforms'][0] for cfg in (ours, theirs))
    assert (
        views[1:] == their_views[1:] and views[0]['type'] == f'mmpretrain.{their_views[0]["type"]}'
    )


@pytest.mark.parametrize('name', [*MOCO, 'demo/mocov2'])
def test_mocov2_fits_together(name):
    cfg, model = load(name)
    assert model.neck.mlp[0].in_features == model.backbone.out[0].out_channels
    assert cfg.train_dataloader.dataset.dataset.pipeline == cfg.train_pipeline
    assert cfg.model.queue_len % cfg.auto_scale_lr.base_batch_size == 0
    for transform in cfg.train_pipeline:
        TRANSFORMS.build(transform)
