"""Every config builds what it describes, and those of the contract exist."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS, MODELS, TRANSFORMS

import finola_mm.selfsup  # noqa: F401

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(
    str(path.relative_to(ROOT))
    for folder in ('selfsup', 'demo')
    for path in (ROOT / 'configs' / folder).glob('*.py')
)
CONTRACT = [f'configs/selfsup/masked_finola_b{suffix}.py' for suffix in ('', '_w1440', '_w720')]


def test_the_contract_is_kept():
    assert set(CONTRACT) | {'configs/demo/masked_finola_b.py'} <= set(CONFIGS)


@pytest.mark.parametrize('path', CONFIGS)
def test_model_and_pipelines_build_and_fit(project_root, path):
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):  # the largest has 60 M parameters: shapes are enough here
        model = MODELS.build(cfg.model)
    for pipeline in (cfg.train_pipeline, cfg.test_pipeline):
        for transform in pipeline:
            TRANSFORMS.build(transform)
    (block,) = {t.patch_size for t in cfg.train_pipeline + cfg.test_pipeline if 'Block' in t.type}
    assert block == model.head.patch_size == model.upsampler.patch_size
    channels = len(model.neck.finola.A)
    assert model.upsampler.embed.in_features == channels
    assert model.backbone.out[0].out_channels == channels


@pytest.mark.parametrize('path', CONTRACT)
def test_the_recipe_of_table_12(project_root, path):
    cfg = Config.fromfile(path)
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer.type == 'AdamW'
    assert optimizer.lr == pytest.approx(1.5e-4 * 1024 / 256)
    assert optimizer.weight_decay == 0.1
    assert cfg.train_cfg.max_epochs == 1600
    assert cfg.param_scheduler[0].end == cfg.param_scheduler[1].begin == 10
    assert cfg.auto_scale_lr.base_batch_size == 1024 == 8 * cfg.train_dataloader.batch_size
    assert cfg.train_pipeline[0].scale == 256
    assert cfg.train_pipeline[0].crop_ratio_range == (0.2, 1.0)


def test_transformer_upsampler_of_table_10(project_root):
    cfg = Config.fromfile(CONTRACT[0])
    with torch.device('meta'):
        upsampler = MODELS.build(cfg.model.upsampler)
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
    cfg = Config.fromfile(CONTRACT[0])
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
