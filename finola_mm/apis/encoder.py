"""Load, extract and publish encoders.

Training checkpoints of ``AtomicCheckpointHook`` record the encoder's config; extracted encoders and
published models keep it.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from .. import __version__
from ..backbones.mobile_former import MobileFormer, get_arch
from ..engine import checkpoint_metadata, find_checkpoint, read_checkpoint, write_weights
from ..engine.checkpoints.state_dict_match import compare, encoder_part, find_tensors, load_matched
from ..engine.hooks.atomic_checkpoint_hook import TRAINING_ONLY
from ..errors import CheckpointError, UserError, list_names
from ..registry import MODELS
from .official_mobile_former import from_official
from .weight_formats import convert_weights

MOBILE_FORMER = ('finola_mm.MobileFormer', 'MobileFormer')

# MMEngine's registry imports and calls any function whose dotted name is a type; a file may name
# only registered classes.
REGISTERED = re.compile(r'((finola_mm|mmpretrain|mmdet)\.)?\w+')


def load_encoder(path: str | Path) -> nn.Module:
    """Build the encoder recorded in a file and load its weights.

    Args:
        path (str | Path): An extracted encoder, a published model, a training checkpoint, or a
            work directory, whose last checkpoint is used.

    Returns:
        nn.Module: The encoder on the CPU, in eval mode, with the arguments it was trained with. It
            takes images normalized as in its training, by default RGB with ImageNet's mean and
            standard deviation; the file's metadata records them.

    Raises:
        CheckpointError: the file is unreadable or unsafe, does not record an encoder, or its
            tensors are not exactly those of the recorded encoder.
    """
    file, tensors, metadata = _read(path)
    return _build_encoder(file, metadata, encoder_part(tensors))


def extract_encoder(
    path: str | Path, out: str | Path, *, library: str | None = None, force: bool = False
) -> Path:
    """Write the encoder of a checkpoint to a file, with its config, origin and normalization.

    For a run with averaged weights (MMEngine's ``EMAHook``), the averaged encoder is written.

    Args:
        path (str | Path): As in ``load_encoder``.
        out (str | Path): The file to write, .pth or .safetensors.
        library (str, optional): Write the names of the weights in ``'mmpretrain'``, ``'mmdet'``,
            ``'timm'`` or ``'torchvision'``, see ``convert_weights``. By default, the names of the
            checkpoint, which ``load_encoder`` and ``finola_mm.Pretrained`` read.
        force (bool): Overwrite ``out``. Defaults to False.

    Returns:
        Path: The file.
    """
    file, tensors, metadata = _read(path)
    if Path(out).exists() and Path(out).samefile(file):
        raise UserError(f'{out} is the checkpoint itself; choose another output file')
    tensors = encoder_part(tensors)
    encoder = _build_encoder(file, metadata, tensors)
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    meta = {**_common(metadata, encoder), 'part': 'encoder', 'parameters': parameters}
    if library:
        tensors = convert_weights(tensors, metadata['encoder'], library)
        meta['library'] = library
    return write_weights(out, tensors, meta=meta, force=force)


def publish_model(path: str | Path, out: str | Path, *, force: bool = False) -> Path:
    """Write the weights of a checkpoint to a file with a hash in its name.

    Class names and palette, which the inferencers of mmdet and mmpretrain read, are kept; the
    optimizer, schedules, logs and config text are omitted. A recorded MobileFormer is checked as in
    ``load_encoder``; models with other encoders are written without this check. Arguments and the
    result are as in ``extract_encoder``.
    """
    file, tensors, metadata = _read(path)
    kind, encoder = metadata.get('encoder', {}).get('type'), None
    if kind in MOBILE_FORMER:
        encoder = _build_encoder(file, metadata, encoder_part(tensors))
    part = 'encoder' if kind and encoder_part(tensors) is tensors else 'model'
    meta = {**_common(metadata, encoder), 'part': part}
    dataset = metadata.get('dataset_meta', {})
    if dataset.get('classes'):
        kept = ('classes', 'palette')
        meta['dataset_meta'] = {name: dataset[name] for name in kept if name in dataset}
    return write_weights(out, tensors, meta=meta, hashed=True, force=force)


def convert_official(path: str | Path, out: str | Path, arch: str, *, force: bool = False) -> Path:
    """Write a checkpoint of the official Mobile-Former, encoder and classifier, under our names.

    Args:
        path (str | Path): The official file.
        out (str | Path): The file to write, .pth or .safetensors.
        arch (str): The network's name in ``ARCHS``, such as ``'508m'``.
        force (bool): Overwrite ``out``. Defaults to False.

    Returns:
        Path: The file.

    Raises:
        CheckpointError: the file is unreadable or unsafe, or has not the tensors of ``arch``.
    """
    out_indices = [len(get_arch(arch)['stages'])]  # the final 1x1
    with torch.device('meta'):
        encoder = MobileFormer(arch, out_indices, with_tokens=True)
    tensors = from_official(_read(path)[1], encoder, arch)
    recorded: dict[str, Any] = dict(type='finola_mm.MobileFormer', arch=arch)
    recorded |= dict(out_indices=out_indices, with_tokens=True)
    meta = {**_common(dict(encoder=recorded), encoder), 'part': 'model'}
    return write_weights(out, tensors, meta=meta, force=force)


def format_weights(file: str | Path) -> str:
    """Describe a weights file in a few lines: its size and its metadata."""
    checkpoint = read_checkpoint(file)
    tensors = find_tensors(checkpoint, file)
    values, size = sum(map(Tensor.numel, tensors.values())), Path(file).stat().st_size
    first = f'{file}: {len(tensors)} tensors, {values:,} values, {size:,} bytes'
    meta = dict(checkpoint['meta'])
    if 'dataset_meta' in meta:
        meta['classes'] = list_names(meta.pop('dataset_meta')['classes'])
    return '\n    '.join([first, *(f'{key}: {value}' for key, value in meta.items())])


def _read(path: str | Path) -> tuple[str, dict[str, Tensor], dict[str, Any]]:
    """Return the file of a checkpoint, its tensors and its metadata."""
    file = find_checkpoint(path)
    checkpoint = read_checkpoint(file)
    return file, find_tensors(checkpoint, file), checkpoint_metadata(checkpoint)


def _build_encoder(path: str, metadata: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    recorded = dict(metadata.get('encoder', {}))
    if 'type' not in recorded:
        raise CheckpointError(
            f'{path} does not record the config of its encoder in meta.encoder. Use a checkpoint '
            'written by finola_mm.AtomicCheckpointHook, or load this one with its config: '
            'tools/train.py CONFIG --pretrained FILE'
        )
    unsafe = [name for name in _names_of_types(recorded) if not REGISTERED.fullmatch(str(name))]
    if unsafe:
        raise CheckpointError(
            f'{path} records an encoder with the type {unsafe[0]!r}; expected the name of a '
            'component of finola_mm, mmpretrain or mmdet'
        )
    if ':' in str(recorded.get('model_name')):  # timm would download such a model, or read a folder
        raise CheckpointError(
            f'{path} records the timm model {recorded["model_name"]!r}; expected the name of a '
            'model without address'
        )
    is_mobile_former = recorded['type'] in MOBILE_FORMER
    try:
        if is_mobile_former:
            with torch.device('meta'):  # no memory and no random numbers for initial weights
                encoder: nn.Module = MobileFormer(**_arguments(recorded))
        else:  # others compute with values while they are built
            with DefaultScope.overwrite_default_scope('mmpretrain'):
                encoder = MODELS.build(
                    {k: v for k, v in recorded.items() if k not in TRAINING_ONLY}
                )
    except (ImportError, LookupError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise CheckpointError(f'{path} records the encoder {recorded}: {error}') from None
    match = compare(encoder, tensors)
    wrong = match.missing or match.reshaped or match.unused
    if wrong:
        raise CheckpointError(
            f'{path} does not have the tensors of the recorded encoder {recorded}: {wrong[0]}'
        )
    if is_mobile_former:
        encoder.to_empty(device='cpu')
    load_matched(encoder, tensors, path)
    encoder.eval()  # mmpretrain's backbones return None
    return encoder


def _arguments(recorded: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in recorded.items() if key != 'type'}


def _names_of_types(node: Any) -> Iterator[Any]:
    """Yield everything in a recorded config that a class would look up in a registry."""
    if isinstance(node, dict):
        yield from (node[key] for key in ('type', 'norm_layer', 'act_layer') if key in node)
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from _names_of_types(item)


def _common(metadata: dict[str, Any], encoder: nn.Module | None) -> dict[str, Any]:
    """Return the metadata of extracted encoders and published models."""
    meta = {**metadata, 'format_version': 1, 'finola_mm_version': __version__}
    meta.pop('dataset_meta', None)
    if isinstance(encoder, MobileFormer):
        recorded = {**metadata['encoder'], 'dynamic_relu': encoder.dynamic_relu}
        meta.update(encoder=recorded, widths=get_arch(recorded['arch']))
    return meta
