"""The last map of an encoder: its width, its stride, and the parameters it depends on.

FINOLA needs nothing else of an encoder, so any backbone that returns maps can be pre-trained: those
of mmpretrain and mmdet, and timm's through ``mmpretrain.TIMMBackbone``.
"""

import copy
import inspect
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..errors import UserError, list_names
from ..registry import MODELS

SIDE = 128  # of the image that is tried: the visible block of an image of 256 x 256 pixels


class EncoderMap(NamedTuple):
    """An encoder's last map, for an image of ``SIDE`` x ``SIDE`` pixels."""

    channels: int
    stride: int
    unused: list[str]  # names of parameters without influence on the map


@torch.enable_grad()
def describe_map(encoder: nn.Module) -> EncoderMap:
    """Apply ``encoder`` to an image on the meta device, where nothing is computed.

    Raises:
        UserError: the encoder fails for this image, or its last output is not a map with an integer
            stride.
    """
    name = type(encoder).__name__
    tensors = [*encoder.parameters(), *encoder.buffers()]
    meta = {id(tensor): torch.empty_like(tensor, device='meta') for tensor in tensors}
    for parameter in encoder.parameters():
        meta[id(parameter)] = nn.Parameter(meta[id(parameter)])
    copied = copy.deepcopy(encoder, meta)
    copied.train()  # mmpretrain's backbones return None
    image = torch.empty(1, 3, SIDE, SIDE, device='meta')
    try:
        maps = copied(image)
    except Exception as error:  # any encoder, so any error
        raise UserError(
            f'{name} fails for an image of {SIDE} x {SIDE} pixels, on which its map is measured: '
            f'{str(error).rstrip(".")}. An encoder of fixed size must accept other sizes (timm: '
            f'dynamic_img_size=True) or have this one (img_size={SIDE})'
        ) from error
    last = maps[-1] if isinstance(maps, (tuple, list)) else maps
    is_map = isinstance(last, Tensor) and last.ndim == 4 and last.shape[2] == last.shape[3]
    if not is_map or SIDE % last.shape[2]:
        found = tuple(last.shape) if isinstance(last, Tensor) else type(last).__name__
        raise UserError(
            f'the last output of {name} must be a map (N, C, {SIDE}/stride, {SIDE}/stride), got '
            f"{found}. For mmpretrain's VisionTransformer set out_type='featmap', for its ConvNeXt "
            "gap_before_final_norm=False; for timm's models set features_only=True"
        )
    last.sum().backward()
    unused = [key for key, parameter in copied.named_parameters() if parameter.grad is None]
    return EncoderMap(last.shape[1], SIDE // last.shape[2], unused)


def freeze_unused(encoder: nn.Module, unused: list[str]) -> None:
    """Exclude parameters without gradient from training: DistributedDataParallel rejects them."""
    trained = [name for name in unused if encoder.get_parameter(name).requires_grad]
    for name in trained:
        encoder.get_parameter(name).requires_grad_(False)
    if trained:
        modules = list(dict.fromkeys(name.rpartition('.')[0] for name in trained))
        print_log(
            f'{len(trained)} parameters of {type(encoder).__name__} do not affect its last map and '
            f'are not trained: {list_names(modules)}',
            logger='current',
            level=logging.WARNING,
        )


def lacks_widths(*cfgs: dict) -> bool:
    """Whether the class of one of ``cfgs`` requires an argument that is not set."""
    return any(
        parameter.default is parameter.empty
        and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        and name not in cfg
        for cfg in cfgs
        for name, parameter in _parameters(cfg).items()
    )


def with_defaults(cfg: dict, **values: Any) -> dict:
    """Return ``cfg`` with those of ``values`` that its class accepts and ``cfg`` does not set."""
    accepted = _parameters(cfg)
    return {**{key: value for key, value in values.items() if key in accepted}, **cfg}


def _parameters(cfg: dict) -> Mapping[str, inspect.Parameter]:
    cls = MODELS.get(cfg['type'])
    return inspect.signature(cls).parameters if cls else {}  # MODELS.build reports unknown types
