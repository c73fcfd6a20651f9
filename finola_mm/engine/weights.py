"""Load weights into a model or an encoder, and say what was loaded.

mmengine loads what fits and lists the rest in the log; a model that stays half random trains all
the same. Here every tensor of the model has to come from the file.
"""

import logging
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper, update_init_info
from torch import Tensor, nn

from ..registry import HOOKS, WEIGHT_INITIALIZERS
from .checkpoint_file import CheckpointError, read_checkpoint
from .config import find_checkpoint
from .resumable import check_run
from .run_record import run_record

ENCODER = 'backbone.'  # prefix of the encoder's tensors in a whole model of the OpenMMLab packages
NAMED = 3  # tensors that a message names


class Fit(NamedTuple):
    """Which tensors of a file belong to a module, by name; ``reshaped`` with the two shapes."""

    matched: list[str]
    missing: list[str]  # the module has it, the file lacks it
    reshaped: list[str]
    unused: list[str]  # the file has it, the module does not


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

    Returns the record of the run that made the file (``run_record``).

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: unreadable or unsafe file, or one that does not fit; ``module`` is
            unchanged then, unless it refused the weights itself.
    """
    if isinstance(allow_missing, (str, bool)):
        raise TypeError(f'allow_missing must be a list of names, got {allow_missing!r}')
    module = module.module if is_model_wrapper(module) else module
    checkpoint = read_checkpoint(path)
    record = run_record(checkpoint)
    tensors = part_for(module, find_tensors(checkpoint, path))
    fit = compare(module, tensors)
    lacking = [key for key in fit.missing if not any(fnmatchcase(key, a) for a in allow_missing)]
    if not fit.matched or fit.reshaped or lacking or (fit.unused and not allow_unused):
        raise CheckpointError(_misfit(module, path, fit, record, tensors))
    fill(module, {key: tensors[key] for key in fit.matched}, path)
    print_log(_loaded(module, path, fit, record), logger='current', level=logging.INFO)
    return record


def fill(module: nn.Module, tensors: dict[str, Tensor], path: str | Path) -> None:
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
        raise CheckpointError(f'{path} holds no tensors; its entries are {_names(list(content))}')
    if all(key.startswith('module.') for key in tensors):
        tensors = {key.removeprefix('module.'): value for key, value in tensors.items()}
    return tensors


def part_for(module: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a file's tensors those for ``module``: all, or those of the encoder, without prefix."""
    encoder = encoder_part(tensors)
    wanted = module.state_dict().keys()
    return max(tensors, encoder, key=lambda part: len(wanted & part.keys()))


def encoder_part(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under ``backbone.``, without that prefix; empty where there are none."""
    return {
        key.removeprefix(ENCODER): value
        for key, value in tensors.items()
        if key.startswith(ENCODER)
    }


def compare(module: nn.Module, tensors: dict[str, Tensor]) -> Fit:
    """Compare names and shapes of ``tensors`` with the state of ``module``."""
    state = module.state_dict()
    fit = Fit([], [], [], [key for key in tensors if key not in state])
    for key, tensor in state.items():
        if key not in tensors:
            fit.missing.append(key)
        elif tensors[key].shape != tensor.shape:
            shapes = f'{tuple(tensors[key].shape)} in the file, {tuple(tensor.shape)} in the model'
            fit.reshaped.append(f'{key}: {shapes}')
        else:
            fit.matched.append(key)
    return fit


def _loaded(module: nn.Module, path: str | Path, fit: Fit, record: dict[str, Any]) -> str:
    total = len(fit.matched) + len(fit.missing)
    what = f'{type(module).__name__} {_arch(module, record)}'.rstrip()
    text = f'Loaded {len(fit.matched)} of {total} tensors of {what} from {path}{_origin(record)}'
    if fit.missing:
        text += f'; not in the file, and left as they were: {_names(fit.missing)}'
    if fit.unused:
        text += f'; in the file only: {_names(fit.unused)}'
    return text


def _misfit(
    module: nn.Module,
    path: str | Path,
    fit: Fit,
    record: dict[str, Any],
    tensors: dict[str, Tensor],
) -> str:
    total = len(fit.matched) + len(fit.missing) + len(fit.reshaped)
    text = f'{path}{_origin(record)} does not fit this {type(module).__name__}: '
    encoder = getattr(module, 'backbone', module)
    arch = _arch(encoder, record)
    if arch and compare(encoder, part_for(encoder, tensors)).reshaped:
        text += (f'its {type(encoder).__name__} is of arch={arch!r}, the model has another: take '
                 "weights of the model's size, or a config with this one; ")
    if _complete(fit):
        return f'{text}it has all {total} tensors, and others besides: {_names(fit.unused)}'
    text += f'{len(fit.matched)} of {total} tensors match'
    if fit.reshaped:
        text += f', of another shape are {_names(fit.reshaped)}'
    if fit.missing:
        text += f', not in the file are {_names(fit.missing)}'
    if fit.unused:
        text += f', only in the file are {_names(fit.unused)}'
    fits_encoder = encoder is not module and _complete(
        compare(encoder, part_for(encoder, tensors))
    )
    if fits_encoder:
        text += '. It does fit the encoder: give it to tools/train.py --pretrained'
    return text


def _complete(fit: Fit) -> bool:
    return not fit.missing and not fit.reshaped


def _arch(encoder: nn.Module, record: dict[str, Any]) -> str:
    """The recorded name of the size, if the record is of an encoder of this class."""
    recorded = record.get('encoder', {})
    same = str(recorded.get('type', '')).rpartition('.')[2] == type(encoder).__name__
    return recorded['arch'] if same and isinstance(recorded.get('arch'), str) else ''


def _origin(record: dict[str, Any]) -> str:
    known = [record.get('source')]
    if 'iter' in record:
        known.append(f'iteration {record["iter"]}')
    known = ', '.join(filter(None, known))
    return f' ({known})' if known else ''


def _names(names: list[str]) -> str:
    more = f' and {len(names) - NAMED} more' if len(names) > NAMED else ''
    return ', '.join(map(str, names[:NAMED])) + more


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """Refuse a ``load_from`` that does not fill the model; tools/train.py adds it.

    mmengine loads what fits and trains the rest from where it was initialised. An initialiser is no
    way to load a whole detector: some of mmdet's draw their transformers anew after it.

    Args:
        path (str): The file's name in the messages.
    """

    priority = 'VERY_HIGH'  # before EMAHook, which exchanges tensors by name
    remedy = ''

    def __init__(self, path: str):
        self.path = path

    def after_load_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:
        module = runner.model.module if is_model_wrapper(runner.model) else runner.model
        record, tensors = run_record(checkpoint), find_tensors(checkpoint, self.path)
        fit = compare(module, tensors)
        if self.refuses(fit):
            said = _misfit(module, self.path, fit, record, tensors)
            raise CheckpointError(said + self.remedy)
        checkpoint['state_dict'] = {key: tensors[key] for key in fit.matched}
        fill(module, checkpoint['state_dict'], self.path)  # MMEngine does it, too, but for errors
        self.settle(checkpoint)
        runner.logger.info(_loaded(module, self.path, fit, record))

    def refuses(self, fit: Fit) -> bool:
        return bool(fit.missing or fit.reshaped)

    def settle(self, checkpoint: dict[str, Any]) -> None:
        """Averages begin anew: state_dict holds those of the run that made the file."""
        checkpoint.pop('ema_state_dict', None)


@HOOKS.register_module()
class StrictResumeHook(StrictLoadHook):
    """Refuse to resume from a checkpoint that is not of this model; tools/train.py adds it.

    Args:
        path (str): The checkpoint's name in the messages.
        passed_over (Sequence[str]): Why newer ones were not taken, for the log.
    """

    remedy = '. --resume wants the model of that run: take its config, or another --work-dir'

    def __init__(self, path: str, *, passed_over: Sequence[str] = ()):
        super().__init__(path)
        self.passed_over = passed_over

    def after_load_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:
        for line in self.passed_over:
            runner.logger.warning(f'{self.path} is resumed, and no newer one: {line}')
        check_run(checkpoint, self.path)
        super().after_load_checkpoint(runner, checkpoint)
        if checkpoint['meta'].get('iter', 0) >= runner.max_iters:
            runner.logger.warning(
                f'{self.path} is the end of its run, {runner.max_iters} iterations: there is '
                'nothing to train')

    def refuses(self, fit: Fit) -> bool:
        return bool(fit.unused) or super().refuses(fit)

    def settle(self, checkpoint: dict[str, Any]) -> None:
        """Averages go on."""


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
