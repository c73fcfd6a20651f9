"""The weights of an encoder under the names that another library gives them.

Sources are the backbones of mmpretrain and, through its ``TIMMBackbone``, of timm. mmdet builds
them as ``type='mmpretrain.ConvNeXt'``; its own ResNet and SwinTransformer have mmpretrain's names.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError

FORMATS = ('mmpretrain', 'mmdet', 'timm', 'torchvision')

Weights = dict[str, Tensor]
Rule = tuple[str, str | Callable[[re.Match], str]]  # arguments of re.sub


def _feature(offset: int) -> Callable[[re.Match], str]:
    """Number torchvision's features: 0 is the stem, 1, 3, 5, 7 are stages, 2, 4, 6 lie between."""
    return lambda found: f'features.{2 * int(found[1]) + offset}.'


# Class in mmpretrain -> library -> substitutions, applied to every name one after another.
NAMES: dict[str, dict[str, Sequence[Rule]]] = {
    'ResNet': {'timm': (), 'torchvision': ()},
    'ConvNeXt': {
        'timm': (
            (r'^downsample_layers\.0', 'stem'),
            (r'^downsample_layers\.(\d)', r'stages.\1.downsample'),
            (r'^stages\.(\d)\.(\d)', r'stages.\1.blocks.\2'),
            ('depthwise_conv', 'conv_dw'),
            ('pointwise_conv', 'mlp.fc'),
            ('^norm3', 'head.norm'),
        ),
        'torchvision': (
            (r'^downsample_layers\.(\d)\.', _feature(0)),
            (r'^stages\.(\d)\.', _feature(1)),
            ('depthwise_conv', 'block.0'),
            (r'\.norm\.', '.block.2.'),
            ('pointwise_conv1', 'block.3'),
            ('pointwise_conv2', 'block.5'),
            ('gamma', 'layer_scale'),
            ('^norm3', 'classifier.0'),
        ),
    },
    'VisionTransformer': {
        'timm': (
            ('projection', 'proj'),
            (r'^layers\.', 'blocks.'),
            (r'\.ln', '.norm'),
            (r'ffn\.layers\.0\.0', 'mlp.fc1'),
            (r'ffn\.layers\.1', 'mlp.fc2'),
            ('^ln1', 'norm'),
        ),
        'torchvision': (
            ('cls_token', 'class_token'),
            ('pos_embed', 'encoder.pos_embedding'),
            (r'patch_embed\.projection', 'conv_proj'),
            (r'^layers\.', 'encoder.layers.encoder_layer_'),
            (r'\.ln', '.ln_'),
            (r'attn\.qkv\.', 'self_attention.in_proj_'),
            (r'attn\.proj', 'self_attention.out_proj'),
            (r'ffn\.layers\.0\.0', 'mlp.0'),
            (r'ffn\.layers\.1', 'mlp.3'),
            ('^ln1', 'encoder.ln'),
        ),
    },
    'SwinTransformer': {
        'timm': (
            ('projection', 'proj'),
            (r'^stages\.(\d)\.downsample', lambda found: f'layers.{int(found[1]) + 1}.downsample'),
            ('^stages', 'layers'),
            (r'w_msa\.', ''),
            (r'ffn\.layers\.0\.0', 'mlp.fc1'),
            (r'ffn\.layers\.1', 'mlp.fc2'),
            ('^norm3', 'norm'),
        ),
        'torchvision': (
            (r'patch_embed\.projection', 'features.0.0'),
            (r'patch_embed\.norm', 'features.0.2'),
            (r'^stages\.(\d)\.downsample\.', _feature(2)),
            (r'^stages\.(\d)\.blocks\.', _feature(1)),
            (r'w_msa\.', ''),
            (r'ffn\.layers\.0\.0', 'mlp.0'),
            (r'ffn\.layers\.1', 'mlp.3'),
            ('^norm3', 'norm'),
        ),
    },
}

# Layers in each of timm's stages of MobileNetV3; the last convolution is a separate stage.
MOBILENET_STAGES = {16: (1, 2, 3, 4, 2, 3), 12: (1, 2, 3, 2, 3)}


def convert_weights(weights: Weights, encoder: dict[str, Any], library: str) -> Weights:
    """Rename the weights of an encoder.

    Args:
        weights (dict): The state dict of the encoder.
        encoder (dict): Its config, with ``type``.
        library (str): One of ``FORMATS``.

    Returns:
        dict: The state dict of the same network in ``library``, without the classifier. A norm
            after a stage that is not the last has no counterpart in timm and torchvision, and is
            omitted.

    Raises:
        UserError: ``library`` does not have this encoder.
    """
    scope, _, kind = encoder['type'].rpartition('.')
    if library in (scope, 'mmpretrain', 'mmdet') and kind != 'MobileFormer':
        return weights
    if kind == 'TIMMBackbone' and library == 'timm':
        return _without_wrappers(weights, timm_model(encoder))
    if kind == 'MobileNetV3':
        return _mobilenet_v3(weights, library)
    if library not in NAMES.get(kind, {}):
        known = [*NAMES, 'MobileNetV3']
        raise UserError(
            f'the names of {encoder["type"]} in {library} are not known; known are those of '
            f'{", ".join(known)} in timm and torchvision, and of TIMMBackbone in timm'
        )
    if kind == 'SwinTransformer':
        weights = _swin_order(weights, library)
    weights = {name: tensor for name, tensor in weights.items() if not re.match('norm[012]', name)}
    renamed = {substitute(name, NAMES[kind][library]): value for name, value in weights.items()}
    if kind == 'ConvNeXt' and library == 'torchvision':
        scales = {name for name in renamed if name.endswith('layer_scale')}
        renamed.update({name: renamed[name][:, None, None] for name in scales})
    return renamed


def substitute(name: str, rules: Sequence[Rule]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def timm_arguments(encoder: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``timm.create_model`` for a ``TIMMBackbone``, without classifier."""
    own = ('type', 'init_cfg', 'pretrained', 'checkpoint_path', 'in_channels')
    of_features = ('features_only', 'feature_cls', 'out_indices')
    kept = {key: value for key, value in encoder.items() if key not in (*own, *of_features)}
    if encoder.get('in_channels', 3) != 3:
        kept['in_chans'] = encoder['in_channels']
    return {**kept, 'num_classes': 0}


def timm_model(encoder: dict[str, Any]) -> nn.Module:
    """Build timm's model of a ``TIMMBackbone`` without classifier, on the meta device."""
    import timm

    with torch.device('meta'):
        return timm.create_model(**timm_arguments(encoder))


def _without_wrappers(weights: Weights, model: nn.Module) -> Weights:
    """Return the names of timm's ``model``, without mmpretrain's prefix.

    ``features_only`` adds another one, or joins the first two parts of a name by an underscore.
    """
    joined = {name.replace('.', '_', 1): name for name in model.state_dict()}
    short = {name.removeprefix('timm_model.').removeprefix('model.'): name for name in weights}
    return {joined.get(name, name): weights[original] for name, original in short.items()}


def _swin_order(weights: Weights, library: str) -> Weights:
    """Reorder the inputs of patch merging, and drop or flatten the table of relative positions.

    mmpretrain merges 2 x 2 positions in the order (channel, row, column), timm and torchvision in
    the order (column, row, channel).
    """
    result = {}
    for name, tensor in weights.items():
        if 'downsample' in name:
            *out, channels = tensor.shape
            parts = tensor.reshape(*out, channels // 4, 2, 2)
            tensor = parts.movedim((-1, -2), (-3, -2)).reshape(tensor.shape)
        if name.endswith('relative_position_index'):
            if library == 'timm':
                continue
            tensor = tensor.flatten()
        result[name] = tensor
    return result


def _mobilenet_v3(weights: Weights, library: str) -> Weights:
    """Rename by the place of each layer, and of each convolution in its layer."""
    parts: dict[int, list[str]] = {}  # layer -> its parts in order, 'depthwise_conv', 'se', ...
    for name in weights:
        layer, part = name.removeprefix('layer').split('.')[:2]
        if part not in parts.setdefault(int(layer), []):
            parts[int(layer)].append(part)
    rules = _mobilenet_in_timm if library == 'timm' else _mobilenet_in_torchvision
    result = {}
    for name, tensor in weights.items():
        layer, part = name.removeprefix('layer').split('.')[:2]
        result[substitute(name, rules(parts, int(layer), part))] = tensor
    return result


def _mobilenet_in_torchvision(parts: dict, layer: int, part: str) -> Sequence[Rule]:
    place = parts[layer].index(part)
    return (
        ('^layer', 'features.'),
        (r'se\.conv(\d)\.conv', rf'block.{place}.fc\1'),
        (r'\w+_conv', f'block.{place}'),
        (r'\.conv\.', '.0.'),
        (r'\.bn\.', '.1.'),
    )


def _mobilenet_in_timm(parts: dict, layer: int, part: str) -> Sequence[Rule]:
    last = max(parts)
    stages = MOBILENET_STAGES[last]
    blocks = [f'blocks.{i}.{j}' for i, count in enumerate(stages) for j in range(count)]
    if layer == 0:
        return (r'layer0\.conv', 'conv_stem'), (r'layer0\.bn', 'bn1')
    if layer == last:
        return (r'layer\d+', f'blocks.{len(stages)}.0'), (r'\.bn\.', '.bn1.')
    convolutions = [part for part in parts[layer] if part != 'se']
    names = ('conv_dw', 'conv_pw') if len(convolutions) == 2 else ('conv_pw', 'conv_dw', 'conv_pwl')
    place = 0 if part == 'se' else convolutions.index(part)
    return (
        (r'layer\d+', blocks[layer - 1]),
        (r'se\.conv1\.conv', 'se.conv_reduce'),
        (r'se\.conv2\.conv', 'se.conv_expand'),
        (r'\w+_conv\.conv', names[place]),
        (r'\w+_conv\.bn', f'bn{place + 1}'),
    )
