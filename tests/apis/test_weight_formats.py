"""Encoders of mmpretrain under timm's and torchvision's names: strict loading, equal maps."""

import pytest
import timm
import torch
import torchvision
from mmengine.registry import init_default_scope
from torch import nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

from finola_mm.apis.weight_formats import convert_weights
from finola_mm.errors import UserError
from finola_mm.registry import MODELS
from tests.messages import shows

SIDE = 64
CONFIGS = dict(
    resnet=dict(type='mmpretrain.ResNet', depth=18, out_indices=(3,)),
    convnext=dict(
        type='mmpretrain.ConvNeXt',
        arch=dict(depths=[1, 2, 1, 1], channels=[16, 32, 48, 64]),
        out_indices=(2, 3),
        gap_before_final_norm=False,
    ),
    vit=dict(
        type='mmpretrain.VisionTransformer',
        arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
        img_size=SIDE,
        out_type='featmap',
    ),
    swin=dict(
        type='mmpretrain.SwinTransformer',
        arch=dict(embed_dims=12, depths=[2, 1, 1, 1], num_heads=[1, 2, 2, 2]),
        img_size=SIDE,
        window_size=2,
    ),
    mobilenet_large=dict(type='mmpretrain.MobileNetV3', arch='large'),
    mobilenet_small=dict(type='mmpretrain.MobileNetV3', arch='small'),
)


def without(classifier, model):
    parent, _, name = classifier.rpartition('.')
    setattr(model.get_submodule(parent), name, nn.Identity())
    return model


def timm_resnet():
    model = timm.create_model('resnet18', num_classes=0)
    return model, model.forward_features


def timm_convnext():
    sizes = dict(depths=(1, 2, 1, 1), dims=(16, 32, 48, 64))
    model = timm.create_model('convnext_tiny', num_classes=0, **sizes)
    return model, lambda x: model.head.norm(model.forward_features(x))


def timm_vit():
    sizes = dict(img_size=SIDE, embed_dim=32, depth=2, num_heads=2, mlp_ratio=2)
    model = timm.create_model('vit_tiny_patch16_224', num_classes=0, **sizes)
    return model, lambda x: as_map(model.forward_features(x))


def timm_swin():
    sizes = dict(embed_dim=12, depths=(2, 1, 1, 1), num_heads=(1, 2, 2, 2))
    options = dict(num_classes=0, img_size=SIDE, window_size=2)
    model = timm.create_model('swin_tiny_patch4_window7_224', **options, **sizes)
    return model, lambda x: model.forward_features(x).permute(0, 3, 1, 2)


def timm_mobilenet(size):
    # mmpretrain's eps of BatchNorm is 1e-3, timm's 1e-5
    model = timm.create_model(f'mobilenetv3_{size}_100', features_only=True, bn_eps=1e-3)
    return model, lambda x: model(x)[-1]


def torchvision_resnet():
    model = without('fc', torchvision.models.resnet18())
    return model, nn.Sequential(*list(model.children())[:-2])


def torchvision_convnext():
    widths = [(16, 32, 1), (32, 48, 2), (48, 64, 1), (64, None, 1)]
    model = without('classifier.2', ConvNeXt([CNBlockConfig(*width) for width in widths]))
    return model, lambda x: model.classifier[0](model.features(x))


def torchvision_vit():
    model = without('heads', torchvision.models.VisionTransformer(SIDE, 16, 2, 2, 32, 64))

    def forward(x):
        x = model._process_input(x)
        return as_map(model.encoder(torch.cat([model.class_token.expand(len(x), -1, -1), x], 1)))

    return model, forward


def torchvision_swin():
    sizes = ([4, 4], 12, [2, 1, 1, 1], [1, 2, 2, 2], [2, 2])
    model = without('head', torchvision.models.SwinTransformer(*sizes))
    return model, lambda x: model.norm(model.features(x)).permute(0, 3, 1, 2)


def torchvision_mobilenet(size):
    model = without('classifier', getattr(torchvision.models, f'mobilenet_v3_{size}')())
    return model, model.features


def as_map(tokens):
    """Class token and patches (N, 1 + L, C) -> (N, C, side, side)."""
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (SIDE // 16, SIDE // 16))


OTHERS = {
    ('resnet', 'timm'): timm_resnet,
    ('convnext', 'timm'): timm_convnext,
    ('vit', 'timm'): timm_vit,
    ('swin', 'timm'): timm_swin,
    ('mobilenet_large', 'timm'): lambda: timm_mobilenet('large'),
    ('mobilenet_small', 'timm'): lambda: timm_mobilenet('small'),
    ('resnet', 'torchvision'): torchvision_resnet,
    ('convnext', 'torchvision'): torchvision_convnext,
    ('vit', 'torchvision'): torchvision_vit,
    ('swin', 'torchvision'): torchvision_swin,
    ('mobilenet_large', 'torchvision'): lambda: torchvision_mobilenet('large'),
    ('mobilenet_small', 'torchvision'): lambda: torchvision_mobilenet('small'),
}


@pytest.mark.parametrize(('kind', 'library'), OTHERS)
@torch.no_grad()
def test_the_same_network(kind, library):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    encoder = MODELS.build(CONFIGS[kind])
    for tensor in encoder.state_dict().values():  # norms, biases and scales that matter
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.add_(torch.rand_like(tensor) / 2)
    encoder.eval()
    other, forward = OTHERS[kind, library]()
    other.eval().load_state_dict(convert_weights(encoder.state_dict(), CONFIGS[kind], library))
    images = torch.randn(2, 3, SIDE, SIDE)
    assert torch.allclose(forward(images), encoder(images)[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('resnet18', {}),
        ('resnetv2_18', {}),
        ('convnext_atto', {}),
        ('mobilenetv3_small_050', {}),
        ('ghostnet_100', {}),
        ('repvgg_a0', {}),
        ('deit_tiny_patch16_224', dict(depth=1, out_indices=(0,))),
        ('swin_tiny_patch4_window7_224', dict(feature_cls='getter')),
    ],
)
def test_timm_names(name, options):
    """All names of a wrapped ``features_only`` network are those of timm's whole network."""
    init_default_scope('mmpretrain')
    cfg = dict(type='mmpretrain.TIMMBackbone', model_name=name, features_only=True, **options)
    weights = convert_weights(MODELS.build(cfg).state_dict(), cfg, 'timm')
    whole = timm.create_model(name).state_dict()
    assert len(weights) > 10
    assert {key: value.shape for key, value in weights.items()}.items() <= {
        key: value.shape for key, value in whole.items()
    }.items()


def test_no_names():
    cfg = dict(type='finola_mm.MobileFormer', arch='small')
    with pytest.raises(UserError, match=shows('finola_mm.MobileFormer', 'timm')):
        convert_weights({}, cfg, 'timm')
