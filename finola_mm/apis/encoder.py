"""Load, extract and publish encoders.

Training checkpoints of ``AtomicCheckpointHook`` record the encoder's config; extracted encoders and
published models keep it.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import __version__
from ..backbones.mobile_former import MobileFormer, get_arch
from ..engine import checkpoint_metadata, find_checkpoint, read_checkpoint, write_weights
from ..engine.checkpoints.state_dict_match import compare, encoder_part, find_tensors, load_matched
from ..errors import CheckpointError, UserError, list_names

# Only these classes are built: MMEngine's registry would import and call any function.
MOBILE_FORMER = ('finola_mm.MobileFormer', 'MobileFormer')


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
        CheckpointError: the file is unreadable or unsafe, does not record a MobileFormer, or its
            tensors are not exactly those of the recorded encoder.
    """
    file, tensors, metadata = _read(path)
    return _build_encoder(file, metadata, encoder_part(tensors))


def extract_encoder(path: str | Path, out: str | Path, *, force: bool = False) -> Path:
    """Write the encoder of a checkpoint to a file, with its config, origin and normalization.

    For a run with averaged weights (MMEngine's ``EMAHook``), the averaged encoder is written.
    ``path`` is as in ``load_encoder``; other arguments and the result are as in ``write_weights``.
    """
    file, tensors, metadata = _read(path)
    if Path(out).exists() and Path(out).samefile(file):
        raise UserError(f'{out} is the checkpoint itself; choose another output file')
    tensors = encoder_part(tensors)
    encoder = _build_encoder(file, metadata, tensors)
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    meta = {**_common(metadata, encoder), 'part': 'encoder', 'parameters': parameters}
    return write_weights(out, tensors, meta=meta, force=force)


def publish_model(path: str | Path, out: str | Path, *, force: bool = False) -> Path:
    """Write the weights of a checkpoint to a file with a hash in its name.

    Class names and palette, which the inferencers of mmdet and mmpretrain read, are kept; the
    optimizer, schedules, logs and config text are omitted. A recorded MobileFormer is checked as in
    ``load_encoder``; models with other encoders are written without this check. Arguments and the
    result are as in ``extract_encoder``.
    """
    file, tensors, metadata = _read(path)
    encoder = None
    if metadata.get('encoder', {}).get('type') in MOBILE_FORMER:
        encoder = _build_encoder(file, metadata, encoder_part(tensors))
    part = 'encoder' if encoder and encoder_part(tensors) is tensors else 'model'
    meta = {**_common(metadata, encoder), 'part': part}
    dataset = metadata.get('dataset_meta', {})
    if dataset.get('classes'):
        kept = ('classes', 'palette')
        meta['dataset_meta'] = {name: dataset[name] for name in kept if name in dataset}
    return write_weights(out, tensors, meta=meta, hashed=True, force=force)


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


def _build_encoder(path: str, metadata: dict[str, Any], tensors: dict[str, Tensor]) -> MobileFormer:
    recorded = dict(metadata.get('encoder', {}))
    if recorded.get('type') not in MOBILE_FORMER:
        found = repr(recorded['type']) if 'type' in recorded else 'no encoder'
        raise CheckpointError(
            f'{path} records {found}; expected the config of a MobileFormer in meta.encoder. Use a '
            'checkpoint written by finola_mm.AtomicCheckpointHook, or load this one with its '
            'config: tools/train.py CONFIG --pretrained FILE'
        )
    try:
        with torch.device('meta'):  # no memory and no random numbers for initial weights
            encoder = MobileFormer(**{key: recorded[key] for key in recorded if key != 'type'})
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f'{path} records the encoder {recorded}: {error}') from None
    match = compare(encoder, tensors)
    wrong = match.missing or match.reshaped or match.unused
    if wrong:
        raise CheckpointError(
            f'{path} does not have the tensors of the recorded encoder {recorded}: {wrong[0]}'
        )
    encoder.to_empty(device='cpu')
    load_matched(encoder, tensors, path)
    return encoder.eval()


def _common(metadata: dict[str, Any], encoder: MobileFormer | None) -> dict[str, Any]:
    """Return the metadata of extracted encoders and published models."""
    meta = {**metadata, 'format_version': 1, 'finola_mm_version': __version__}
    meta.pop('dataset_meta', None)
    if encoder is not None:
        recorded = {**metadata['encoder'], 'dynamic_relu': encoder.dynamic_relu}
        meta.update(encoder=recorded, widths=get_arch(recorded['arch']))
    return meta
