"""One optimizer group for each set of options, instead of one for each tensor.

With ``paramwise_cfg``, MMEngine's constructors put every tensor into a group of its own. torch's
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


def merge_saved_groups(checkpoint: dict[str, Any], optimizer: Optimizer, module: nn.Module) -> None:
    """Adapt a checkpoint with one group for each tensor of ``module`` to merged groups, in place.

    Earlier versions wrote such checkpoints. Others are left unchanged.
    """
    saved = checkpoint['optimizer'].get('param_groups', [])
    # The order of MMEngine's constructors. Each saved group holds the index of one tensor.
    place = {id(p): i for i, p in enumerate(p for p in module.parameters() if p.requires_grad)}
    if len(saved) != len(place) or len(saved) == len(optimizer.param_groups):
        return
    places = [[place[id(p)] for p in group['params']] for group in optimizer.param_groups]
    checkpoint['optimizer']['param_groups'] = [
        _options(saved[first]) | dict(params=[saved[i]['params'][0] for i in (first, *others)])
        for first, *others in places
    ]
    schedulers = checkpoint.get('param_schedulers', [])
    for scheduler in schedulers if isinstance(schedulers, list) else sum(schedulers.values(), []):
        for name, values in scheduler.items():
            # base_values and _last_value: one for each group, and one for the logged base_lr.
            if isinstance(values, list) and len(values) == len(saved) + 1:
                scheduler[name] = [values[first] for first, *_ in places] + values[-1:]


def _options(group: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in group.items() if k not in ('params', 'param_name')}
