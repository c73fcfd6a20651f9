"""Which tensors of a file belong to a module, and how a message says it."""

from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

ENCODER = 'backbone.'  # prefix of the encoder's tensors in a whole model of the OpenMMLab packages
NAMED = 3  # tensors that a message names


class StateDictMatch(NamedTuple):
    """Which tensors of a file belong to a module, by name; ``reshaped`` with the two shapes."""

    matched: list[str]
    missing: list[str]  # the module has it, the file lacks it
    reshaped: list[str]
    unused: list[str]  # the file has it, the module does not

    @property
    def complete(self) -> bool:
        """The file fills the module."""
        return not self.missing and not self.reshaped


def compare(module: nn.Module, tensors: dict[str, Tensor]) -> StateDictMatch:
    """Compare names and shapes of ``tensors`` with the state of ``module``."""
    state = module.state_dict()
    fit = StateDictMatch([], [], [], [key for key in tensors if key not in state])
    for key, tensor in state.items():
        if key not in tensors:
            fit.missing.append(key)
        elif tensors[key].shape != tensor.shape:
            shapes = f'{tuple(tensors[key].shape)} in the file, {tuple(tensor.shape)} in the model'
            fit.reshaped.append(f'{key}: {shapes}')
        else:
            fit.matched.append(key)
    return fit


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


def format_loaded(
    module: nn.Module, path: str | Path, fit: StateDictMatch, record: dict[str, Any]
) -> str:
    """What the log says of weights that were format_loaded."""
    total = len(fit.matched) + len(fit.missing)
    what = f'{type(module).__name__} {_arch(module, record)}'.rstrip()
    text = f'Loaded {len(fit.matched)} of {total} tensors of {what} from {path}{_origin(record)}'
    if fit.missing:
        text += f'; not in the file, and left as they were: {first_names(fit.missing)}'
    if fit.unused:
        text += f'; in the file only: {first_names(fit.unused)}'
    return text


def format_mismatch(
    module: nn.Module,
    path: str | Path,
    fit: StateDictMatch,
    record: dict[str, Any],
    tensors: dict[str, Tensor],
) -> str:
    """What an error says of weights that were refused."""
    total = len(fit.matched) + len(fit.missing) + len(fit.reshaped)
    text = f'{path}{_origin(record)} does not fit this {type(module).__name__}: '
    encoder = getattr(module, 'backbone', module)
    arch = _arch(encoder, record)
    if arch and compare(encoder, part_for(encoder, tensors)).reshaped:
        text += (
            f'its {type(encoder).__name__} is of arch={arch!r}, the model has another: take '
            "weights of the model's size, or a config with this one; "
        )
    if fit.complete:
        return f'{text}it has all {total} tensors, and others besides: {first_names(fit.unused)}'
    text += f'{len(fit.matched)} of {total} tensors match'
    if fit.reshaped:
        text += f', of another shape are {first_names(fit.reshaped)}'
    if fit.missing:
        text += f', not in the file are {first_names(fit.missing)}'
    if fit.unused:
        text += f', only in the file are {first_names(fit.unused)}'
    if encoder is not module and compare(encoder, part_for(encoder, tensors)).complete:
        text += '. It does fit the encoder: give it to tools/train.py --pretrained'
    return text


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


def first_names(names: list[str]) -> str:
    more = f' and {len(names) - NAMED} more' if len(names) > NAMED else ''
    return ', '.join(map(str, names[:NAMED])) + more
