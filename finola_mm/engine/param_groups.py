"""One optimizer group for each set of options, instead of one for each tensor.

With ``paramwise_cfg``, MMEngine's constructors create a group for every tensor. torch's
optimizers update a group with a few kernels on a GPU, so hundreds of groups take thousands.
"""

from typing import Any

from torch import nn
from torch.optim import Optimizer


def merge_param_groups(optimizer: Optimizer) -> None:
    """Merge the groups that have equal options, in the order of their first tensors."""
    merged: list[dict[str, Any]] = []
    for group in optimizer.param_groups:
        same = next((other for other in merged if _options(other) == _options(group)), None)
        if same is None:
            merged.append(_options(group) | dict(params=list(group['params'])))
        else:
            same['params'] += group['params']
    optimizer.param_groups = merged


def merge_saved_groups(state: dict[str, Any], optimizer: Optimizer, module: nn.Module) -> None:
    """Merge saved groups, one for each tensor of ``module``, like those of ``optimizer``, in place.

    Earlier versions wrote such checkpoints. Others are left unchanged.
    """
    saved = state['param_groups']
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if len(saved) != len(trained) or len(saved) == len(optimizer.param_groups):
        return
    # The order of MMEngine's constructors. Each saved group holds the index of one tensor.
    by_tensor = dict(zip(trained, saved, strict=True))
    state['param_groups'] = [
        by_tensor[group['params'][0]]
        | dict(params=[by_tensor[tensor]['params'][0] for tensor in group['params']])
        for group in optimizer.param_groups
    ]


def _options(group: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in group.items() if k not in ('params', 'param_name')}
