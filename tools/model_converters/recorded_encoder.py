"""What both converters say about the encoder in a checkpoint; no tool by itself."""

import torch
from torch import Tensor

from finola_mm import MobileFormer
from finola_mm.backbones.mobile_former import DYNAMIC_RELU, get_arch
from finola_mm.engine import CheckpointError
from finola_mm.engine.checkpoints import compare

# The file names the class that is built. MMEngine's registry would import and call any function.
NAMES = ('finola_mm.MobileFormer', 'MobileFormer')


def has_mobile_former(record: dict) -> bool:
    return record.get('encoder', {}).get('type') in NAMES


def recorded_encoder(
    path: str, record: dict, tensors: dict[str, Tensor]
) -> tuple[MobileFormer, dict]:
    """Build the encoder of a record, without memory for its weights.

    tensors: all that the encoder has. The second value is for ``meta``: the encoder's config with
    the form of dynamic ReLU that the tensors have, and its widths as numbers.

    Raises:
        CheckpointError: none is recorded, it cannot be built, or the tensors are those of another.
    """
    recorded = record.get('encoder', {})
    if not has_mobile_former(record):
        found = recorded.get('type', 'nothing')
        raise CheckpointError(f'{path} does not record the config of a MobileFormer, but {found!r}')
    arguments = {key: value for key, value in recorded.items() if key != 'type'}
    try:
        with torch.device('meta'):
            encoder = MobileFormer(**arguments)
        widths = get_arch(recorded['arch'])
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f'{path}: the recorded encoder {recorded}: {error}') from None
    fit = compare(encoder, tensors)
    wrong = fit.missing or fit.reshaped or fit.unused
    if wrong:
        raise CheckpointError(
            f'{path}: the tensors are not those of the recorded encoder {recorded}: {wrong[0]}'
        )
    form = DYNAMIC_RELU[int(tensors['dynamic_relu_form'])]
    return encoder, dict(encoder={**recorded, 'dynamic_relu': form}, widths=widths)
