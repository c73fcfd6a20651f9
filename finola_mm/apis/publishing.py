"""Extract, convert and publish the weights of encoders and models."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import __version__
from ..backbones.mobile_former import MobileFormer, get_arch
from ..engine import read_checkpoint, write_weights
from ..engine.checkpoints.state_dict_match import encoder_part, find_tensors
from ..errors import UserError, list_names
from .encoder import MOBILE_FORMER, build_encoder, read_weights
from .official_mobile_former import from_official
from .weight_formats import convert_weights


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
    file, tensors, metadata = read_weights(path)
    if Path(out).exists() and Path(out).samefile(file):
        raise UserError(f'{out} is the checkpoint itself; choose another output file')
    tensors = encoder_part(tensors)
    encoder = build_encoder(file, metadata, tensors)
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
    file, tensors, metadata = read_weights(path)
    kind, encoder = metadata.get('encoder', {}).get('type'), None
    if kind in MOBILE_FORMER:
        encoder = build_encoder(file, metadata, encoder_part(tensors))
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
    tensors = from_official(read_weights(path)[1], encoder, arch)
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


def _common(metadata: dict[str, Any], encoder: nn.Module | None) -> dict[str, Any]:
    """Return the metadata of extracted encoders and published models."""
    meta = {**metadata, 'format_version': 1, 'finola_mm_version': __version__}
    meta.pop('dataset_meta', None)
    if isinstance(encoder, MobileFormer):
        recorded = {**metadata['encoder'], 'dynamic_relu': encoder.dynamic_relu}
        meta.update(encoder=recorded, widths=get_arch(recorded['arch']))
    return meta
