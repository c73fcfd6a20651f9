"""Every config builds what it describes, and those of the contract exist."""

from functools import cache
from pathlib import Path

import mmdet.models
import mmdet.visualization  # noqa: F401
import mmengine
import mmpretrain.visualization  # noqa: F401
import pytest
import torch
from mmengine import registry
from mmengine.config import Config
from mmengine.registry import Registry, init_default_scope
from mmpretrain.registry import DATASETS, MODELS, TRANSFORMS

import finola_mm.classification
import finola_mm.det
import finola_mm.selfsup  # noqa: F401
from finola_mm.datasets import RandomBlock, nest_arguments
from finola_mm.engine.checkpoints.published_weights import PUBLISHED
from finola_mm.layers import FINOLALayer

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(  # those of FINOLA; the others have tests of their own beside this one
    str(path.relative_to(ROOT))
    for folder in ('selfsup', 'demo', 'photos')
    for path in (ROOT / 'configs' / folder).glob('**/*.py')
    if path.name.startswith(('finola', 'masked_finola'))
)
ROOTS = [value for value in vars(registry).values() if isinstance(value, Registry)]
WIDTHS = {'': 2880, '_w1440': 1440, '_w720': 720}
CONTRACT = [
    f'configs/selfsup/{name}{suffix}.py'
    for name in ('finola', 'finola_multipath', 'masked_finola_e', 'masked_finola_b')
    for suffix in WIDTHS
]
WHOLE = [path for path in CONFIGS if Path(path).name.startswith('finola')]
MASKED = [path for path in CONFIGS if path not in WHOLE]


read = cache(Config.fromfile)


@cache
def load(path):
    """A config and its model."""
    cfg = read(ROOT / path)
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):  # the largest has 200 M parameters: shapes are enough here
        return cfg, MODELS.build(cfg.model)


@pytest.fixture
def on_meta(monkeypatch):
    """The recurrence asks for autocast, which the meta device has not: there q is repeated."""

    def shapes(q, A, A_neg, B, B_neg, size, *rest):
        assert {m.shape for m in (A, A_neg, B, B_neg)} == {(q.shape[-1],) * 2}
        return FINOLALayer(q.shape[-1], step='repeat')(q, size)

    monkeypatch.setattr('finola_mm.layers.finola.finola', shapes)


FOLDERS = ['selfsup', 'classification', 'det', 'demo', 'study', 'photos']


@pytest.mark.parametrize('folder', FOLDERS)
def test_images_are_read_by_our_loader(folder):
    """mmcv's leaves some formats turned; a config that derives from another package may keep it."""
    for path in (ROOT / 'configs' / folder).glob('**/*.py'):
        cfg = read(path)
        splits = [cfg.get(f'{split}_dataloader') for split in ('train', 'val', 'test')]
        loaders = {name for name in types_in(splits) if '.Load' in f'.{name}'}
        images = {name for name in loaders if 'Annotations' not in name}
        ours = {f'finola_mm.{name}' for name in ('LoadImageFromFile', 'LoadRandomResizedCrop')}
        assert images and images <= ours, path


@pytest.mark.parametrize('folder', FOLDERS)
def test_metrics_are_logged_at_the_iteration_where_there_are_no_epochs(folder):
    """The epoch of an iteration-based run is always 0."""
    for path in (ROOT / 'configs' / folder).glob('**/*.py'):
        cfg = read(path)
        if cfg.get('train_cfg', {}).get('type') == 'IterBasedTrainLoop':
            assert cfg.default_hooks.logger.log_metric_by_epoch is False, path


@pytest.mark.parametrize('folder', FOLDERS)
def test_components_by_name_are_those_by_path(folder):
    """MMEngine gives the scope ``finola_mm`` to each outermost component of ``finola_mm::NAME``."""
    for path in (ROOT / 'configs' / folder).glob('**/*.py'):
        cfg = read(path).to_dict()
        named = Config._dict_to_config_dict(read(path).to_dict(), scope='finola_mm')
        by_path, by_name = ([*scoped_types(c, cfg['default_scope'])] for c in (cfg, named))
        assert 'finola_mm' in {scope for _, scope in by_name}
        for one, other in zip(by_path, by_name, strict=True):
            assert find(*one) == find(*other), (path, one, other)


def scoped_types(node, scope):
    """Yield (type, scope) of all components in nested dicts and lists."""
    if isinstance(node, dict):
        scope = node.get('_scope_') or scope
        if isinstance(node.get('type'), str):
            yield node['type'], scope
        node = [value for key, value in node.items() if key != '_scope_']
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from scoped_types(item, scope)


@cache
def find(name, scope):
    """What ``name`` is in each of MMEngine's registries, in a scope."""
    return [(r._search_child(scope) or r).get(name) for r in ROOTS]


def test_each_config_is_in_the_metafile():
    models = mmengine.load(ROOT / 'configs/metafile.yml')['Models']
    listed = {model['Name']: model['Config'] for model in models}
    folders = [*FOLDERS, 'seg']
    paths = [path for folder in folders for path in (ROOT / 'configs' / folder).glob('**/*.py')]
    assert set(listed.values()) == {str(path.relative_to(ROOT)) for path in paths}
    assert all(f'configs/{name}.py' == path for name, path in listed.items())
    assert {model['Weights'] for model in models} - {None} <= set(PUBLISHED)


def types_in(node):
    """Yield all values of ``type`` in nested dicts and lists."""
    if isinstance(node, dict):
        if isinstance(node.get('type'), str):
            yield node['type']
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from types_in(item)


def test_the_contract_is_kept():
    variants = [f'c{c}' for c in (64, 128, 256, 512, 1024, 2048, 4096)] + ['w4320', 'w5760']
    table_2 = {f'configs/selfsup/finola_{variant}.py' for variant in variants}
    demos = {'configs/demo/masked_finola_b.py', 'configs/demo/finola.py'}
    assert {*CONTRACT, *table_2, *demos} <= set(CONFIGS)


@pytest.mark.parametrize('path', MASKED)
def test_masked_model_and_pipelines_build_and_fit(on_meta, path):
    cfg, model = load(path)
    transforms = [TRANSFORMS.build(t) for t in (*cfg.train_pipeline, *cfg.test_pipeline)]
    blocks = [t for t in transforms if isinstance(t, RandomBlock)]
    assert len(blocks) == 2
    for block in blocks:
        assert block.patch_size == model.head.patch_size == model.upsampler.patch_size
        assert block.block_size == model.block_size
    size, p = image_size(cfg), model.head.patch_size
    (h, w) = block.block_size or (size // p // 2,) * 2
    feats = encoded(model, h, w)
    z = model.neck(feats, torch.zeros(2, 2, dtype=torch.int64))
    assert model.upsampler(z).shape == (2, 3, size, size)


@pytest.mark.parametrize('path', WHOLE)
def test_whole_image_model_and_pipelines_build_and_fit(on_meta, path):
    cfg, model = load(path)
    for transform in (*cfg.train_pipeline, *cfg.test_pipeline):
        assert not isinstance(TRANSFORMS.build(transform), RandomBlock)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert 'block_offset' not in nest_arguments(loader.dataset).dataset.pipeline[-1].meta_keys
    size = image_size(cfg)
    q = model.neck.pool(encoded(model, size // 16, size // 16))
    assert q.shape == (2, cfg.model.neck.get('num_paths', 1), cfg.model.neck.channels)
    assert model.decode(q).shape == (2, 3, size, size)


def encoded(model, h, w):
    """What the encoder makes of two images; the forward pass of a large one takes a second."""
    return [torch.empty(2, model.backbone.out[0].out_channels, h, w, device='meta')]


def image_size(cfg):
    """Side of the images, the same in training and in test."""
    (size,) = {t.crop_size for t in cfg.test_pipeline if 'crop_size' in t}
    assert {t.scale for t in cfg.train_pipeline if 'scale' in t} == {size}
    return size


@pytest.mark.parametrize('path', CONTRACT)
def test_the_recipe_of_table_12(path):
    cfg, _ = load(path)
    masked = 'masked' in path
    batch, epochs = (1024, 1600) if masked else (128, 100)
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer.type == 'finola_mm.FusedAdamW'
    assert optimizer.lr == pytest.approx(1.5e-4 * batch / 256)
    assert optimizer.weight_decay == 0.1
    warmup, cosine = cfg.param_scheduler
    assert warmup.end == cosine.begin == 10
    assert cfg.train_cfg.max_epochs == cosine.end == cosine.begin + cosine.T_max == epochs
    assert cfg.auto_scale_lr.base_batch_size == batch == 8 * cfg.train_dataloader.batch_size
    assert cfg.train_pipeline[0].scale == 256
    assert cfg.train_pipeline[0].crop_ratio_range == (0.2, 1.0)
    assert cfg.train_dataloader.dataset.dataset.pipeline == cfg.train_pipeline


@pytest.mark.parametrize('path', CONTRACT)
def test_the_encoder_is_what_the_name_says(path):
    (width,) = {width for suffix, width in WIDTHS.items() if suffix and suffix in path} or {2880}
    assert load(path)[1].backbone.out[0].out_channels == width


@pytest.mark.parametrize('path', [path for path in WHOLE if 'configs/selfsup' in path])
def test_the_latent_is_what_the_name_says(path):
    """The number in a name is the width of the vector, the encoder's or the side of the map."""
    cfg, model = load(path)
    name = Path(path).stem.removeprefix('finola').split('_')[1:]
    numbers = {part[0]: int(part[1:]) for part in name if part[1:].isdigit()}
    paths = 16 if 'multipath' in name else 1
    width = numbers.get('c', 128 if 'r' in numbers else 1024 if paths > 1 else 3072)
    assert model.neck.finola.channels == width
    assert len(model.neck.pooling.queries) == paths
    assert model.neck.size == (numbers.get('r', 16),) * 2
    assert cfg.model.backbone.arch == f'w{numbers.get("w", 2880)}'


def test_what_is_not_decayed():
    """Norms, biases, tokens and queries; under both algorithms that have queries."""
    for name in ('finola', 'masked_finola_e'):
        custom = load(f'configs/selfsup/{name}.py')[0].optim_wrapper.paramwise_cfg
        assert set(custom.custom_keys) == {'tokens', 'queries'}
        assert custom.norm_decay_mult == custom.bias_decay_mult == 0


def test_transformer_upsampler_of_table_10():
    upsampler = load('configs/selfsup/masked_finola_b.py')[1].upsampler
    assert len(upsampler.blocks) == 6
    assert upsampler.embed.out_features == 512
    assert upsampler.to_patch.out_features == 16 * 16 * 3
    assert not any('pos' in name for name, _ in upsampler.named_parameters())


def layouts(root, tmp_path):
    """The three ways to keep images: class folders, one flat folder, a list file."""
    listed = tmp_path / 'list.txt'
    listed.write_text('cat/0.jpg\ndog/3.jpg\n')
    return [
        (dict(data_root=str(root), data_prefix='train'), 10),
        (dict(data_root=str(root), data_prefix='val'), 4),
        (dict(data_root=str(root), data_prefix='train', ann_file=str(listed)), 2),
    ]


def test_class_folders_flat_folder_and_list_file(project_root, image_folder, tmp_path):
    cfg = Config.fromfile('configs/selfsup/masked_finola_b.py')
    init_default_scope(cfg.default_scope)
    for layout, count in layouts(image_folder, tmp_path):
        dataset_cfg = cfg.train_dataloader.dataset.copy()
        dataset_cfg.dataset.update(layout)
        dataset = DATASETS.build(dataset_cfg)
        assert len(dataset) == count
        sample = dataset[count - 1]
        assert sample['inputs'].shape == (3, 256, 256)
        row, col = sample['data_samples'].block_offset
        assert 0 <= row <= 8 and 0 <= col <= 8
