"""Load weights into a model or an encoder, and report which tensors matched.

MMEngine loads the tensors that match and only logs the others, so a partly random model is trained.
Here every tensor of the model must come from the file.
"""

import logging
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.logging import print_log
from mmengine.model import update_init_info
from torch import Tensor, nn

from ...errors import CheckpointError, list_names
from ...registry import WEIGHT_INITIALIZERS
from ..model import unwrap_model
from .checkpoint_file import checkpoint_metadata, read_checkpoint
from .resume_point import find_checkpoint

ENCODER = 'backbone.'  # prefix of the encoder's tensors in a model of the OpenMMLab packages


class StateDictMatch(NamedTuple):
    """Tensor names in a module and a file; ``reshaped`` includes both shapes."""

    matched: list[str]
    missing: list[str]  # only in the module
    reshaped: list[str]
    unused: list[str]  # only in the file

    @property
    def complete(self) -> bool:
        """Whether the file has all tensors of the module."""
        return not self.missing and not self.reshaped


def compare(module: nn.Module, tensors: dict[str, Tensor]) -> StateDictMatch:
    """Compare names and shapes of ``tensors`` with the state dict of ``module``."""
    state = module.state_dict()
    match = StateDictMatch([], [], [], [key for key in tensors if key not in state])
    for key, tensor in state.items():
        if key not in tensors:
            match.missing.append(key)
        elif tensors[key].shape != tensor.shape:
            shapes = f'{tuple(tensors[key].shape)} in the file, {tuple(tensor.shape)} in the model'
            match.reshaped.append(f'{key}: {shapes}')
        else:
            match.matched.append(key)
    return match


def find_tensors(checkpoint: dict[str, Any], path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint, without the prefix of DistributedDataParallel."""
    content = checkpoint.get('state_dict', checkpoint)
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f'{path} contains no tensors; its entries are {list_names(content)}')
    if all(key.startswith('module.') for key in tensors):
        tensors = {key.removeprefix('module.'): value for key, value in tensors.items()}
    return tensors


def encoder_part(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the encoder's tensors from a whole model's file, or all tensors of an encoder file."""
    prefixed = [key for key in tensors if key.startswith(ENCODER)]
    return {key.removeprefix(ENCODER): tensors[key] for key in prefixed} or tensors


def load_weights(
    module: nn.Module,
    path: str | Path,
    *,
    allow_missing: Sequence[str] = (),
    allow_unused: bool = True,
) -> dict[str, Any]:
    """Load a file into a whole model or an encoder.

    From the file of a whole model, an encoder loads the tensors under ``backbone.``. A checkpoint
    of a run with MMEngine's ``EMAHook`` provides the averaged weights, which are its
    ``state_dict``.

    Args:
        module (nn.Module): The model or the encoder.
        path (str | Path): A training checkpoint, an extracted encoder or a published model.
        allow_missing (Sequence[str]): Patterns of tensors that the file may lack, such as
            ``'head.blocks.1.*'``; they are left unchanged. Defaults to ().
        allow_unused (bool): Allow tensors that ``module`` does not have; the log names them.
            Defaults to True.

    Returns:
        dict: The metadata of the file's run (``checkpoint_metadata``).

    Raises:
        CheckpointError: the file is unreadable, unsafe or does not fit; ``module`` is unchanged.
    """
    if isinstance(allow_missing, (str, bool)):
        raise TypeError(f'allow_missing must be a list of names, got {allow_missing!r}')
    module = unwrap_model(module)
    checkpoint = read_checkpoint(path)
    metadata = checkpoint_metadata(checkpoint)
    tensors, names = find_tensors(checkpoint, path), module.state_dict().keys()
    # The whole model or its encoder: the part that shares more names with ``module``.
    tensors = max(tensors, encoder_part(tensors), key=lambda part: len(names & part.keys()))
    match = compare(module, tensors)
    missing = [key for key in match.missing if not any(fnmatchcase(key, a) for a in allow_missing)]
    if not match.matched or match.reshaped or missing or (match.unused and not allow_unused):
        raise CheckpointError(format_mismatch(module, path, match, metadata, tensors))
    load_matched(module, {key: tensors[key] for key in match.matched}, path)
    print_log(format_loaded(module, path, match, metadata), logger='current', level=logging.INFO)
    return metadata


def load_matched(module: nn.Module, tensors: dict[str, Tensor], path: str | Path) -> None:
    """Load tensors that match ``module``; if the module rejects them, name the file."""
    try:
        module.load_state_dict(tensors, strict=False)
    except CheckpointError as error:  # MobileFormer: the other dynamic ReLU
        raise CheckpointError(f'{path}: {error}') from None


@WEIGHT_INITIALIZERS.register_module(name='Pretrained')
class Pretrained:
    """Initialize an encoder or a model from a file, with the checks of ``load_weights``.

    Used as ``init_cfg=dict(type='finola_mm.Pretrained', checkpoint=...)``. In a list of
    initializers it must come last.

    Args:
        checkpoint (str): A file, or a work directory, whose last checkpoint is used.
        allow_missing (Sequence[str]): Patterns of tensors that the file may lack, such as
            ``'head.blocks.1.*'``. Defaults to ().
    """

    def __init__(self, checkpoint: str, *, allow_missing: Sequence[str] = ()):
        self.checkpoint = checkpoint
        self.allow_missing = allow_missing

    def __call__(self, module: nn.Module) -> None:
        # MMEngine initializes children after the module, except for its own 'Pretrained'. Children
        # that are initialized before the weights are loaded are not initialized again.
        for child in module.children():
            init_weights = getattr(child, 'init_weights', None)
            if init_weights and not getattr(child, 'is_init', False):
                init_weights()
        file = find_checkpoint(self.checkpoint)
        load_weights(module, file, allow_missing=self.allow_missing)
        # Backbones of mmpretrain overwrite some weights afterwards (the last norm of a residual
        # block, position embeddings), unless init_cfg is one dict of this type.
        module.init_cfg = dict(type='Pretrained', checkpoint=file)  # type: ignore[assignment]
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=f'finola_mm.Pretrained: load from {file}')


def format_loaded(
    module: nn.Module, path: str | Path, match: StateDictMatch, metadata: dict[str, Any]
) -> str:
    """Format the log line for loaded weights."""
    count, total = len(match.matched), len(match.matched) + len(match.missing)
    text = f'Loaded {count} of {total} tensors of {type(module).__name__} from {path}'
    text += _origin(metadata)
    if match.missing:
        text += f'; missing in the file and left unchanged: {list_names(match.missing)}'
    if match.unused:
        text += f'; unused: {list_names(match.unused)}'
    return text


def format_mismatch(
    module: nn.Module,
    path: str | Path,
    match: StateDictMatch,
    metadata: dict[str, Any],
    tensors: dict[str, Tensor],
) -> str:
    """Format the error for rejected weights."""
    total = len(match.matched) + len(match.missing) + len(match.reshaped)
    text = f'{path}{_origin(metadata)} does not fit this {type(module).__name__}: '
    text += f'{len(match.matched)} of {total} tensors match'
    for label, names in (
        ('with a different shape', match.reshaped),
        ('missing in the file', match.missing),
        ('only in the file', match.unused),
    ):
        text += f'; {label}: {list_names(names)}' if names else ''
    encoder = getattr(module, 'backbone', module)
    fits_encoder = encoder is not module and compare(encoder, encoder_part(tensors)).complete
    if fits_encoder and not match.complete:
        return f'{text}. The file fits the encoder: pass it to tools/train.py --pretrained'
    return f'{text}. Use weights of this model, or the config of that run'


def format_other_classes(metadata: dict[str, Any], classes: Sequence[str] | None) -> str | None:
    """Describe how the recorded classes of a file differ from ``classes``; None if they do not."""
    recorded = metadata.get('dataset_meta', {}).get('classes')
    if not recorded or not classes or list(recorded) == list(classes):
        return None
    return (
        f'was trained for the classes {list_names(recorded)}, in this order; the data set has '
        f'{list_names(classes)}. If they are the same classes, set metainfo.classes of the data '
        'set to the names of the checkpoint'
    )


def _origin(metadata: dict[str, Any]) -> str:
    known = [metadata['source']] if metadata.get('source') else []
    known += [f'iteration {metadata["iter"]}'] if 'iter' in metadata else []
    if 'arch' in (encoder := metadata.get('encoder', {})):
        known += [f'{str(encoder.get("type")).rpartition(".")[2]} arch={encoder["arch"]!r}']
    return f' ({", ".join(known)})' if known else ''
