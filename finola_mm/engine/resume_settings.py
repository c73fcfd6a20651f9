"""Train a resumed run with the settings of its config, not with those of its checkpoint.

A checkpoint holds the settings of optimizer and schedules together with their state. MMEngine
restores both, so that a new learning rate or a longer schedule would be logged, but not used.
"""

import warnings
from typing import Any

from ..errors import CheckpointError, list_names

POSITION = ('last_step', '_global_step', '_last_value')  # of a schedule; the rest are settings


def apply_settings(runner, checkpoint: dict[str, Any], path: str) -> None:
    """Replace the settings in ``checkpoint`` by this run's, and log those that differ.

    Called before MMEngine restores the checkpoint. Where schedules differ, the learning rate
    becomes that of a run which had this run's settings from the beginning. With several optimizers
    or a schedule that depends on metrics, all settings of the checkpoint are kept.

    Raises:
        CheckpointError: the state is that of another optimizer.
    """
    state, schedules = checkpoint['optimizer'], runner.param_schedulers or []
    by_metrics = any(hasattr(schedule, 'need_val_args') for schedule in schedules)
    if by_metrics or 'param_groups' not in state:  # several optimizers
        runner.logger.warning(f'Optimizers and schedules keep the settings of {path}')
        return
    groups = runner.optim_wrapper.param_groups
    saved = [*state['param_groups'], *filter(None, [state.get('base_param_settings')])]
    pairs = list(zip(saved, groups, strict=False))
    for old, new in pairs:
        found, expected = _state_shape(old, new), _state_shape(new, old)
        if found != expected or len(saved) != len(groups):
            raise CheckpointError(
                f'{path} holds the state of another optimizer: {len(saved)} groups of parameters, '
                f'this run has {len(groups)}; only there: {list_names(sorted(found - expected), 8)}'
                f'; only here: {list_names(sorted(expected - found), 8)}. Restore optim_wrapper, '
                f'or start a new run from the weights: --cfg-options load_from={path}'
            )
    before = [_settings(schedule) for schedule in checkpoint.get('param_schedulers', [])]
    after = [_settings(schedule.state_dict()) for schedule in schedules]
    scheduled = {schedule.param_name for schedule in schedules}
    scheduled |= {'betas'} if 'momentum' in scheduled else set()  # MMEngine schedules beta_0
    changes = []
    if before != after:
        for i, (old, new) in enumerate(zip(before, after, strict=False)):
            changes += [f'param_scheduler.{i}.{change}' for change in _differences(old, new)]
        if len(before) != len(after):
            changes.append(f'{len(before)} -> {len(after)} schedules')
        _recompute(runner, schedules, checkpoint)
    for old, new in pairs:
        settings = {name: new[name] for name in new if name not in {'params', *scheduled}}
        changes += _differences(old, {name: settings[name] for name in settings if name in old})
        old.update({name: new[name] for name in scheduled if before != after}, **settings)
    if changes:
        runner.logger.warning(
            f'Settings that differ from those in {path} and apply from now on: '
            f'{list_names(dict.fromkeys(changes), 8)}'
        )


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


def _settings(schedule: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in schedule.items() if name not in POSITION}


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Describe different values; the base values of schedules are initial values of groups."""
    names = [name for name in new if name != 'base_values' and old.get(name) != new[name]]
    return [f'{name.removeprefix("initial_")} {old.get(name)} -> {new[name]}' for name in names]


def _state_shape(group: dict[str, Any], other: dict[str, Any]) -> set[str]:
    """Describe what the state depends on: size, numbers, and flags (not those of another torch)."""
    settings = {name: value for name, value in group.items() if not name.startswith('initial_')}
    shape = {f'{len(settings.pop("params"))} parameters'}
    for name, value in settings.items():
        if isinstance(value, bool):
            shape |= {f'{name}={value}'} if name in other else set()
        elif isinstance(value, (float, int, tuple, list)):
            shape.add(name)
    return shape
