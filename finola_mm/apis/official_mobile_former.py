"""The official weights of Mobile-Former's ImageNet family under our names.

The official code computes an expanding depthwise convolution as one grouped convolution, of which
output o reads input o // e at expansion e; ours reads input o mod C (``DepthwiseConv2d``). Its
filters are reordered, and with them the layers behind it. In 26M, a channel shuffle follows the
convolution, after which the order is ours.
"""

import re

import torch
from torch import Tensor, nn

from ..backbones.mobile_former import MobileFormer
from ..engine.checkpoints.state_dict_match import compare
from ..errors import CheckpointError
from ..layers import BneckLite, Mobile, MobileDown
from ..layers.mobile import DepthwiseConv2d
from .weight_formats import Rule, Weights, substitute

# Substitutions in the names of a block, by its convolutional half.
CONVOLUTIONS: dict[type[nn.Module], tuple[Rule, ...]] = {
    BneckLite: (
        (r'\.conv\.([01])', r'.filter.\1'),
        (r'\.conv\.4', '.project.0'),
        (r'\.conv\.5', '.project.1'),
    ),
    Mobile: (
        (r'\.conv1', '.mobile.expand'),
        (r'\.conv2', '.mobile.filter'),
        (r'\.conv3', '.mobile.project'),
        (r'\.hyper(\d)\.hyper', r'.mobile.act\1'),
    ),
    MobileDown: (
        (r'\.conv1', '.mobile.filter1'),
        (r'\.conv2', '.mobile.project1'),
        (r'\.conv3', '.mobile.filter2'),
        (r'\.conv4', '.mobile.project2'),
        (r'\.hyper1\.hyper', '.mobile.act1'),
        (r'\.hyper3\.hyper', '.mobile.act2'),
    ),
}
OTHERS: tuple[Rule, ...] = (
    (r'(act\d)\.0', r'\1.squeeze'),
    (r'(act\d)\.2', r'\1.expand'),
    ('^local_global', 'last_local_global'),
    (r'local_global\.q', 'to_former.query'),
    (r'local_global\.alpha\.0', 'to_former.gate'),
    (r'local_global\.proj', 'to_former.out'),
    (r'local_global\.layer_norm', 'to_former.norm'),
    (r'global_block\.q', 'former.query'),
    (r'global_block\.channel_mlp', 'former.out'),
    (r'global_block\.layer_norm', 'former.norm1'),
    (r'global_block\.ffn_norm', 'former.norm2'),
    (r'global_block\.ffn', 'former.ffn'),
    (r'global_local\.k', 'to_mobile.key'),
    (r'global_local\.proj', 'to_mobile.value'),
    (r'^tokens\.weight', 'tokens'),
    (r'^classifier\.conv\.1', 'out.0'),
    (r'^classifier\.conv\.2', 'out.1'),
    (r'^classifier\.fc', 'head.hidden'),
    (r'^classifier\.classifier\.1', 'head.fc'),
)


def from_official(weights: Weights, encoder: MobileFormer, arch: str) -> Weights:
    """Convert a state dict of the official code.

    Args:
        weights (dict): The official state dict.
        encoder (MobileFormer): The same network, with its final 1x1 convolution and tokens.
        arch (str): Its name, for the message.

    Returns:
        dict: The state dict of ``encoder`` under ``backbone.``, and that of ``MobileFormerHead``
            under ``head.``.

    Raises:
        CheckpointError: ``weights`` are not those of ``encoder``.
    """
    blocks = [
        (f'stages.{i}.{j}', type(getattr(block, 'mobile', block)))
        for i, stage in enumerate(encoder.stages)
        for j, block in enumerate(stage)
    ]
    renamed = {_rename(name, blocks): tensor for name, tensor in weights.items()}
    head = {name: tensor for name, tensor in renamed.items() if name.startswith('head.')}
    body = {name: tensor for name, tensor in renamed.items() if name not in head}
    body['dynamic_relu_form'] = torch.zeros((), dtype=torch.uint8)  # plain
    match = compare(encoder, body)
    wrong = match.missing or match.reshaped or match.unused
    if wrong:
        raise CheckpointError(
            f'the weights are not those of the official {arch}: {wrong[0]}. Choose the arch of the '
            'checkpoint'
        )
    for name, module in encoder.named_modules():
        if isinstance(module, DepthwiseConv2d) and module.out_channels > module.in_channels:
            body |= _reordered(body, name.removesuffix('.0'), module.in_channels)
    return {f'backbone.{name}': tensor for name, tensor in body.items()} | head


def _rename(name: str, blocks: list[tuple[str, type[nn.Module]]]) -> str:
    found = re.match(r'features\.(\d+)', name)
    if found and int(found[1]) < len(blocks):
        place, kind = blocks[int(found[1])]
        name = substitute(place + name[found.end() :], CONVOLUTIONS[kind])
    return substitute(name, OTHERS)


def _reordered(weights: Weights, path: str, channels: int) -> Weights:
    """Reorder the filters of the expanding convolution at ``path``, and what they determine."""

    def reorder(tensor: Tensor, parts: int = 1) -> Tensor:
        """Move output i * e + j to j * channels + i, in each of ``parts``."""
        return tensor.unflatten(0, (parts, channels, -1)).transpose(1, 2).flatten(0, 2)

    filters = [name for name in weights if name.startswith(f'{path}.') and weights[name].ndim]
    result = {name: reorder(weights[name]) for name in filters}
    block, _, number = path.rpartition('filter')
    project = (
        f'{block}project{number}.0.weight'  # (out, C, 1, 1); in groups: (out, C / groups, 1, 1)
    )
    if weights[project].shape[1] == len(weights[f'{path}.0.weight']):
        result[project] = reorder(weights[project].transpose(0, 1)).transpose(0, 1)
        for name in (f'{block}act{number}.expand.{kind}' for kind in ('weight', 'bias')):
            if name in weights:  # not in bneck-lite
                result[name] = reorder(weights[name], parts=2)  # both slopes
    return result
