"""Load weights into a model or an encoder, and say what was format_loaded.

mmengine loads what fits and lists the rest in the log; a model that stays half random trains all
the same. Here every tensor of the model has to come from the file.
"""

import logging
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from mmengine.model import is_model_wrapper, update_init_info
from torch import Tensor, nn

from ...registry import WEIGHT_INITIALIZERS
from .checkpoint_file import CheckpointError, read_checkpoint
from .checkpoint_metadata import checkpoint_metadata
from .find_checkpoint import find_checkpoint
from .state_dict_match import compare, first_names, format_loaded, format_mismatch, part_for


def load_weights(
    module: nn.Module,
    path: str | Path,
    *,
    allow_missing: Sequence[str] = (),
    allow_unused: bool = True,
) -> dict[str, Any]:
    """Load the file at ``path`` into ``module``, a whole model or an encoder alone.

    The file: ``.pth`` or ``.safetensors``; a training checkpoint, an extracted encoder or a
    published model. Of a whole model's file an encoder takes the part ``backbone.``. A checkpoint
    of a run with mmengine's ``EMAHook`` gives the averaged weights: those are its ``state_dict``.

    allow_missing: accept that the file lacks tensors of the module with these names, such as
        ``'head.blocks.1.*'``; they stay as they are.
    allow_unused: accept that the file has others besides; they are named in the log.

    Returns the record of the run that made the file (``checkpoint_metadata``).

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: unreadable or unsafe file, or one that does not fit; ``module`` is
            unchanged then, unless it refused the weights itself.
    """
    if isinstance(allow_missing, (str, bool)):
        raise TypeError(f'allow_missing must be a list of names, got {allow_missing!r}')
    module = module.module if is_model_wrapper(module) else module
    checkpoint = read_checkpoint(path)
    record = checkpoint_metadata(checkpoint)
    tensors = part_for(module, find_tensors(checkpoint, path))
    fit = compare(module, tensors)
    lacking = [key for key in fit.missing if not any(fnmatchcase(key, a) for a in allow_missing)]
    if not fit.matched or fit.reshaped or lacking or (fit.unused and not allow_unused):
        raise CheckpointError(format_mismatch(module, path, fit, record, tensors))
    load_matched(module, {key: tensors[key] for key in fit.matched}, path)
    print_log(format_loaded(module, path, fit, record), logger='current', level=logging.INFO)
    return record


def load_matched(module: nn.Module, tensors: dict[str, Tensor], path: str | Path) -> None:
    """Put tensors that fit into ``module``.

    Raises:
        CheckpointError: the module refuses them, as MobileFormer does the other dynamic ReLU.
    """
    try:
        module.load_state_dict(tensors, strict=False)
    except ValueError as error:
        raise CheckpointError(f'{path}: {error}') from None


def find_tensors(checkpoint: dict[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The named tensors of a checkpoint, without the ``module.`` of DistributedDataParallel.

    Raises:
        CheckpointError: there are none; the message says what there is.
    """
    content = checkpoint.get('state_dict', checkpoint)
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        entries = first_names(list(content))
        raise CheckpointError(f'{path} holds no tensors; its entries are {entries}')
    if all(key.startswith('module.') for key in tensors):
        tensors = {key.removeprefix('module.'): value for key, value in tensors.items()}
    return tensors


@WEIGHT_INITIALIZERS.register_module(name='Pretrained')
class Pretrained:
    """``init_cfg=dict(type='finola_mm.Pretrained', checkpoint=...)`` of an encoder or a model.

    mmengine's 'Pretrained' with the checks of ``load_weights``. In a list of initialisers it is
    the last.

    Args:
        checkpoint (str): A file, or a work directory for its last checkpoint.
        allow_missing (Sequence[str]): Names of tensors that the file may lack, such as
            ``'head.blocks.1.*'``. Defaults to ().
    """

    def __init__(self, checkpoint: str, *, allow_missing: Sequence[str] = ()):
        self.checkpoint = checkpoint
        self.allow_missing = allow_missing

    def __call__(self, module: nn.Module) -> None:
        # mmengine puts only its own 'Pretrained' behind the initialisation of the parts; parts that
        # are initialised before this one loads are not touched again.
        for part in module.children():
            if hasattr(part, 'init_weights') and not getattr(part, 'is_init', False):
                part.init_weights()
        file = find_checkpoint(self.checkpoint)
        load_weights(module, file, allow_missing=self.allow_missing)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=f'finola_mm.Pretrained: load from {file}')
