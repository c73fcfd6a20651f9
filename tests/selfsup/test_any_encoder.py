"""Masked FINOLA with encoders of mmpretrain and timm: configs/selfsup/any, from a run to a file."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from mmdet.registry import MODELS as MMDET
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS as MMPRETRAIN
from mmpretrain.structures import DataSample

from finola_mm.apis import load_encoder
from finola_mm.engine import read_checkpoint, write_weights
from finola_mm.errors import CheckpointError, UserError
from finola_mm.selfsup import MaskedFINOLA
from finola_mm.selfsup.encoder_map import describe_map
from tests.conftest import ROOT, needs_new_exporter
from tests.forks import run_script
from tests.messages import shows

CONFIGS = sorted(path.stem for path in (ROOT / 'configs/selfsup/any').glob('*.py'))
RESNET = dict(type='mmpretrain.ResNet', depth=18, out_indices=(2,))


def masked_model(backbone, **parts):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    upsampler = dict(type='finola_mm.TransformerUpsampler', embed_dim=32, depth=1, num_heads=2)
    return MaskedFINOLA(
        data_preprocessor=dict(mean=[124.0, 116.0, 104.0], std=[58.0, 57.0, 57.0]),
        backbone=backbone,
        neck=dict(type='finola_mm.BlockFINOLANeck', **parts.pop('neck', {})),
        upsampler=dict(upsampler, **parts.pop('upsampler', {})),
        head=dict(type='finola_mm.MaskedReconstructionHead'),
    )


@pytest.mark.parametrize('name', CONFIGS)
@torch.no_grad()
def test_widths_are_those_of_the_map(name):
    init_default_scope('mmpretrain')
    cfg = Config.fromfile(ROOT / f'configs/selfsup/any/{name}.py')
    model = MMPRETRAIN.build(cfg.model)
    model.eval()
    feat = model.backbone(torch.zeros(1, 3, 128, 128))[-1]  # (1, C, 128/stride, 128/stride)
    patch = 128 // feat.shape[2]
    assert patch == (32 if name.endswith('s32') else 16)
    assert model.neck.finola.A.shape == (feat.shape[1],) * 2
    assert model.upsampler.embed.in_features == feat.shape[1]
    assert model.head.patch_size == model.upsampler.patch_size == patch
    for pipeline in (cfg.train_pipeline, cfg.test_pipeline):
        assert pipeline[-2]['patch_size'] == patch
    assert cfg.val_dataloader.dataset.pipeline == cfg.test_pipeline
    assert cfg.train_dataloader.dataset.dataset.pipeline == cfg.train_pipeline


def test_every_trained_parameter_has_a_gradient():
    """The stage behind the map is frozen: several ranks need gradients of all parameters."""
    model = masked_model(RESNET)
    images = torch.randn(2, 3, 64, 64)
    samples = [DataSample(metainfo=dict(block_offset=offset)) for offset in ((0, 1), (2, 2))]
    model.loss(images, samples)['loss'].backward()
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {
        f'backbone.{n}' for n, _ in model.backbone.named_parameters() if 'layer4' in n
    }
    assert {name for name, p in model.named_parameters() if p.grad is None} == frozen


def test_given_widths_are_kept():
    stages = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1))
    given = masked_model(
        {**RESNET, **stages}, neck=dict(channels=256), upsampler=dict(in_channels=256)
    )
    read = masked_model({**RESNET, **stages})
    assert given.state_dict().keys() == read.state_dict().keys()
    assert masked_model(RESNET, upsampler=dict(in_channels=512)).upsampler.embed.in_features == 512


@pytest.mark.parametrize(
    ('backbone', 'found'),
    [
        (dict(type='mmpretrain.VisionTransformer', arch='deit-tiny', out_type='cls_token'), '192'),
        (
            dict(
                type='mmpretrain.TIMMBackbone',
                model_name='swin_tiny_patch4_window7_224',
                features_only=True,
                out_indices=(2,),
                img_size=128,
            ),
            '384',  # channels last
        ),
        (dict(type='mmpretrain.TIMMBackbone', model_name='deit_tiny_patch16_224'), '224'),
    ],
    ids=['no map', 'channels last', 'fixed size'],
)
def test_what_is_not_a_map(backbone, found):
    init_default_scope('mmpretrain')
    with pytest.raises(UserError, match=shows(found, backbone['type'].rpartition('.')[2])):
        describe_map(MMPRETRAIN.build(backbone))


def test_a_type_that_is_not_registered():
    with pytest.raises(KeyError, match=shows('finola_mm.TransformerUpsample')):
        masked_model(RESNET, upsampler=dict(type='finola_mm.TransformerUpsample'))


@pytest.mark.parametrize('name', ['resnet18', 'vit_small', 'swin_tiny'])
@pytest.mark.parametrize('alone', [True, False])
def test_initialization_keeps_pretrained_weights(tmp_path, name, alone):
    """These encoders initialize norms, position embeddings or biases after their ``init_cfg``."""
    cfg = Config.fromfile(ROOT / f'configs/selfsup/any/{name}.py').model.backbone
    init_default_scope('mmpretrain')
    weights = {
        key: torch.rand_like(tensor) if tensor.is_floating_point() else tensor
        for key, tensor in MMPRETRAIN.build(cfg).state_dict().items()
    }
    torch.save(dict(state_dict=weights), tmp_path / 'encoder.pth')
    read = dict(type='finola_mm.Pretrained', checkpoint=str(tmp_path / 'encoder.pth'))
    others = [] if alone else [dict(type='Constant', layer='Conv2d', val=0)]
    encoder = MMPRETRAIN.build(cfg | dict(init_cfg=read if alone else [*others, read]))
    encoder.init_weights()
    for key, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, weights[key]), key


def options(images: Path) -> list[str]:
    """Return options for two epochs of two steps on small images."""
    pipelines = {
        'train_dataloader.dataset.dataset.pipeline.0.scale': 128,
        'train_dataloader.dataset.dataset.data_root': images,
        'train_dataloader.batch_size': 5,
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
        'train_cfg.max_epochs': 2,
        'model.upsampler.depth': 1,
        'default_hooks.checkpoint.interval': 2,
    }
    return ['--no-validate', '--cfg-options', *(f'{k}={v}' for k, v in pipelines.items())]


# How each encoder is built elsewhere, without classifier.
ELSEWHERE = dict(
    resnet18_s32=('torchvision', lambda: without('fc', torchvision.models.resnet18())),
    convnext_tiny_s32=('timm', lambda: timm.create_model('convnext_tiny', num_classes=0)),
    mobilenetv3_large_s32=(
        'torchvision',
        lambda: without('classifier', torchvision.models.mobilenet_v3_large()),
    ),
    vit_small=(
        'timm',
        lambda: timm.create_model('deit_small_patch16_224', img_size=128, num_classes=0),
    ),
    swin_tiny_s32=(
        'timm',
        lambda: timm.create_model('swin_tiny_patch4_window7_224', num_classes=0),
    ),
    timm_convnext_tiny_s32=(
        'timm',
        lambda: without('head', timm.create_model('convnext_tiny', num_classes=0)),
    ),
)


def without(part, model):
    setattr(model, part, torch.nn.Identity())
    return model


@pytest.fixture(
    scope='module',
    params=[
        'resnet18_s32',
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ELSEWHERE
            if name != 'resnet18_s32'
        ),
    ],
)
def trained(request, tmp_path_factory, image_folder):
    """(name, work directory) after four steps."""
    name, work_dir = request.param, tmp_path_factory.mktemp('any') / request.param
    config = ROOT / f'configs/selfsup/any/{name}.py'
    run_script('tools/train.py', config, '--work-dir', work_dir, *options(image_folder))
    return name, work_dir


def test_out_into_other_libraries(trained, tmp_path, project_root):
    name, work_dir = trained
    cfg = Config.fromfile(ROOT / f'configs/selfsup/any/{name}.py')
    encoder = load_encoder(work_dir)
    assert not any(module.training for module in encoder.modules())
    saved = read_checkpoint(work_dir / 'epoch_2.pth')['state_dict']
    for key, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, saved[key])

    library, build = ELSEWHERE[name]
    extract = 'tools/model_converters/extract_backbone.py'
    for form in ('mmpretrain', 'mmdet', library):
        run_script(extract, work_dir, tmp_path / f'{form}.pth', '--format', form)
    weights = {
        form: read_checkpoint(tmp_path / f'{form}.pth')['state_dict']
        for form in ('mmpretrain', 'mmdet', library)
    }
    for registry, form in ((MMPRETRAIN, 'mmpretrain'), (MMDET, 'mmdet')):
        registry.build(cfg.model.backbone).load_state_dict(weights[form])
    build().load_state_dict(weights[library])


@needs_new_exporter
def test_onnx(trained, tmp_path, project_root):
    name, work_dir = trained
    config = f'configs/selfsup/any/{name}.py'
    size = ['--size', 128, 128, '--batch', 1]
    out = run_script(
        'tools/deployment/export.py', config, work_dir, tmp_path / 'encoder.onnx', *size
    )
    differences = re.findall(r'difference from PyTorch (\S+)', out)
    assert differences and max(map(float, differences)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize('name', ELSEWHERE)
def test_two_ranks(name, tmp_path, image_folder, project_root):
    config = f'configs/selfsup/any/{name}.py'
    command = ['tools/dist_train.sh', config, '2', '--work-dir', tmp_path, *options(image_folder)]
    env = {**os.environ, 'CUDA_VISIBLE_DEVICES': ''}
    result = subprocess.run(
        list(map(str, command)), timeout=300, env=env, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / 'epoch_2.pth').is_file()


def test_a_file_names_no_function(tmp_path):
    """MMEngine's registry would import and call it."""
    encoder = dict(type='mmpretrain.ResNet', depth=18, norm_cfg=dict(type='os.system'))
    write_weights(tmp_path / 'w.pth', {'a': torch.zeros(1)}, meta=dict(encoder=encoder))
    with pytest.raises(CheckpointError, match=shows('os.system')):
        load_encoder(tmp_path / 'w.pth')


def test_a_file_names_no_other_file(tmp_path, monkeypatch):
    """timm would download a model, or unpickle the file."""
    asked = []
    monkeypatch.setattr(timm, 'create_model', lambda **options: asked.append(options))
    encoder = dict(
        type='mmpretrain.TIMMBackbone',
        model_name='resnet18',
        pretrained=True,
        checkpoint_path='/other.pth',
    )
    write_weights(tmp_path / 'w.pth', {'a': torch.zeros(1)}, meta=dict(encoder=encoder))
    with pytest.raises((CheckpointError, AttributeError)):
        load_encoder(tmp_path / 'w.pth')
    assert not asked[0]['pretrained'] and not asked[0]['checkpoint_path']
    encoder['model_name'] = 'hf-hub:someone/resnet18'
    write_weights(tmp_path / 'x.pth', {'a': torch.zeros(1)}, meta=dict(encoder=encoder))
    with pytest.raises(CheckpointError, match=shows('hf-hub:someone/resnet18')):
        load_encoder(tmp_path / 'x.pth')
    assert len(asked) == 1
