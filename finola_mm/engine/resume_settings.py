"""Train a resumed run with the settings of its config, not with those of its checkpoint.

A checkpoint holds the settings of optimizer and schedules together with their state. MMEngine
restores both, so that a new learning rate or a longer schedule would be logged, but not used.
"""

import warnings
from itertools import zip_longest
from typing import Any

from ..errors import CheckpointError, list_names
from .model import unwrap_model
from .param_groups import merge_saved_groups

POSITION = ('last_step', '_global_step', '_last_value')  # of a schedule; the rest are settings


def apply_settings(runner, checkpoint: dict[str, Any], path: str) -> None:
    """Replace the settings in ``checkpoint`` by this run's, and log those that differ.

    Called before MMEngine restores the checkpoint. Where schedules differ, the learning rate
    becomes that of a run which had this run's settings from the beginning. With a schedule that
    depends on metrics, all settings of the checkpoint are kept.

    Raises:
        CheckpointError: the state is that of another optimizer.
    """
    state, schedules = checkpoint['optimizer'], runner.param_schedulers or []
    if any(hasattr(schedule, 'need_val_args') for schedule in schedules):
        runner.logger.warning(f'Optimizers and schedules keep the settings of {path}')
        return
    merge_saved_groups(state, runner.optim_wrapper.optimizer, unwrap_model(runner.model))
    groups = runner.optim_wrapper.param_groups
    saved = [*state['param_groups'], *filter(None, [state.get('base_param_settings')])]
    found, expected = _format_layout(saved), _format_layout(groups)
    if found != expected:
        raise CheckpointError(
            f'{path} holds the state of another optimizer ({found}); expected {expected}. Restore '
            f'optim_wrapper, or start a new run from the weights: --cfg-options load_from={path}'
        )
    before = checkpoint.get('param_schedulers', [])
    before, after = map(_settings, (before, [schedule.state_dict() for schedule in schedules]))
    changes = []
    for i, (old, new) in enumerate(zip_longest(before, after, fillvalue=dict[str, Any]())):
        changes += [f'param_scheduler.{i}.{change}' for change in _differences(old, new)]
    scheduled = {schedule.param_name for schedule in schedules}
    scheduled |= {'betas'} if 'momentum' in scheduled else set()  # MMEngine schedules beta_0
    if before != after:
        _recompute(runner, schedules, checkpoint)
    for old, new in zip(saved, groups, strict=True):
        settings = {name: new[name] for name in new if name not in {'params', *scheduled}}
        changes += _differences(old, {name: settings.get(name, old[name]) for name in old})
        old.update({name: new[name] for name in scheduled if before != after}, **settings)
    info = checkpoint['message_hub'].get('runtime_info', {})
    sizes = [hub.get('total_batch_size') for hub in (info, runner.message_hub.runtime_info)]
    if all(sizes) and sizes[0] != sizes[1]:
        changes.append(f'total batch size {sizes[0]} -> {sizes[1]}')
        info['total_batch_size'] = sizes[1]
    if changes:
        runner.logger.warning(
            f'Settings that differ from those in {path} and apply from now on: '
            f'{list_names(dict.fromkeys(changes), 8)}'
        )


def _format_layout(groups: list[dict[str, Any]]) -> str:
    """Describe what the state of an optimizer depends on: sizes and numbers, not their values."""
    sizes = list_names((len(group['params']) for group in groups), 8)
    numbers = {n for group in groups for n in group if type(group[n]) in (int, float, tuple, list)}
    numbers |= {'amsgrad' for group in groups if group.get('amsgrad')}  # has a state of its own
    names = sorted(name for name in numbers if not name.startswith(('params', 'initial_')))
    return f'{len(groups)} groups of {sizes} parameters with {", ".join(names)}'


def _settings(schedules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in schedule.items() if k not in POSITION} for schedule in schedules]


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Describe different values; the base values of schedules are initial values of groups."""
    names = [n for n in old | new if n != 'base_values' and old.get(n) != new.get(n)]
    return [f'{n.removeprefix("initial_")} {old.get(n)} -> {new.get(n)}' for n in names]


def _recompute(runner, schedules: list, checkpoint: dict[str, Any]) -> None:
    """Step new schedules to the iteration of the checkpoint, in this run's epochs."""
    epochs, iterations = checkpoint['meta']['epoch'], checkpoint['meta']['iter']
    length = runner.max_iters // runner.max_epochs
    earlier = checkpoint['message_hub'].get('runtime_info', {}).get('epoch_length', length)
    epoch_ends = range(length, epochs * length + 1, length)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # schedules are stepped before the optimizer
        for iteration in range(1, iterations + (length - earlier) * epochs + 1):
            for schedule in schedules:
                if not schedule.by_epoch or iteration in epoch_ends:
                    schedule.step()
    checkpoint['param_schedulers'] = [schedule.state_dict() for schedule in schedules]
