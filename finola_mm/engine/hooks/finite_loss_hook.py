"""Stop a run whose loss is no longer a number, before a checkpoint is polluted by it."""

import json
from collections import deque
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.dist import get_rank
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop

from ...registry import HOOKS

REMEDY = (
    'Lower the learning rate, train in float32 where it was float16 or bfloat16, or mend the data. '
    'The last checkpoint was written before.'
)


class NonFiniteLossError(FloatingPointError):
    """The loss or the weights hold NaN or infinity. The message is meant for the user."""


class StepLosses(NamedTuple):
    """What one training step gave, on its way from the device."""

    iteration: int  # counted from 1, as in the log
    epoch: int | None  # counted from 1; None in an iteration-based run
    learning_rates: dict[str, float]
    images: list[str]
    names: list[str]
    values: torch.Tensor  # (len(names),) float32 on the CPU, valid once `arrival` has happened
    arrival: 'torch.cuda.Event | None'  # None: valid at once

    def losses(self) -> dict[str, float]:
        return dict(zip(self.names, self.values.tolist(), strict=True))


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop with one error when any entry of a training step's outputs is NaN or infinite.

    The device is not waited for: losses are copied without blocking and looked at one or a few
    iterations later. Before a checkpoint, a validation, the end of an epoch and of the run all
    outstanding ones are, and the weights too: a gradient that is not finite spoils them after a
    finite loss, and a loss of another process reaches this one only through them.
    """

    priority = 'VERY_HIGH'  # long before any checkpoint is written or an average of weights made

    def __init__(self):
        self.pending: deque[StepLosses] = deque()
        self.iteration = 0  # the last one, counted from 1

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.iteration = runner.iter + 1
        if outputs:
            self.pending.append(_record(runner, data_batch, outputs))
        if _checkpoint_is_due(runner):
            self._settle(runner)
        while self.pending and _has_arrived(self.pending[0]):
            _check(runner, self.pending.popleft())

    def after_train_epoch(self, runner):
        self._settle(runner)

    def before_val(self, runner):
        self._settle(runner)

    def after_train(self, runner):
        self._settle(runner)

    def before_save_checkpoint(self, runner, checkpoint):
        self._settle(runner)

    def _settle(self, runner) -> None:
        """Wait for every outstanding loss, look at it, then at the weights."""
        while self.pending:
            step = self.pending.popleft()
            if step.arrival is not None:
                step.arrival.synchronize()
            _check(runner, step)
        _check_weights(runner, self.iteration)


def _record(runner, data_batch, outputs: dict) -> StepLosses:
    values, arrival = _to_host(outputs)
    by_iteration = isinstance(runner.train_loop, IterBasedTrainLoop)
    return StepLosses(
        iteration=runner.iter + 1,
        epoch=None if by_iteration else runner.epoch + 1,
        learning_rates={name: lr[0] for name, lr in runner.optim_wrapper.get_lr().items()},
        images=_image_names(data_batch),
        names=list(outputs),
        values=values,
        arrival=arrival,
    )


def _to_host(outputs: dict) -> tuple[torch.Tensor, 'torch.cuda.Event | None']:
    """The scalars of ``outputs`` on the CPU, and when they are there."""
    tensors = [value for value in outputs.values() if isinstance(value, torch.Tensor)]
    device = tensors[0].device if tensors else torch.device('cpu')
    values = torch.stack(
        [
            torch.as_tensor(value, dtype=torch.float32, device=device).detach().reshape(())
            for value in outputs.values()
        ]
    )
    if device.type != 'cuda':
        return values.cpu(), None
    host = torch.empty(values.shape, pin_memory=True).copy_(values, non_blocking=True)
    arrival = torch.cuda.Event()
    arrival.record()
    return host, arrival


def _has_arrived(step: StepLosses) -> bool:
    return step.arrival is None or step.arrival.query()


def _image_names(data_batch) -> list[str]:
    """The files of a batch, or the indices of its samples where they carry no ``img_path``."""
    samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
    return [str(s.get('img_path', s.get('sample_idx', '?'))) for s in samples or ()]


def _checkpoint_is_due(runner) -> bool:
    """Whether a checkpoint follows this very iteration.

    ``before_save_checkpoint`` alone would be too late: mmengine's own hook has deleted the oldest.
    """
    return any(
        hook.every_n_train_iters(runner, hook.interval, hook.save_begin)
        or (hook.save_last and hook.is_last_train_iter(runner))
        for hook in runner.hooks
        if isinstance(hook, CheckpointHook) and not hook.by_epoch
    )


def _check(runner, step: StepLosses) -> None:
    if step.values.isfinite().all():
        return
    path = Path(runner.work_dir, f'nonfinite_loss_iter_{step.iteration}_rank_{get_rank()}.json')
    losses = {name: f'{value:.6g}' for name, value in step.losses().items()}  # JSON has no NaN
    report = dict(
        iteration=step.iteration,
        epoch=step.epoch,
        rank=get_rank(),
        losses=losses,
        learning_rates=step.learning_rates,
        images=step.images,
    )
    path.write_text(json.dumps(report, indent=2))
    epoch = f' of epoch {step.epoch}' if step.epoch else ''
    raise NonFiniteLossError(
        f'the loss is not finite at iteration {step.iteration}{epoch}: {_listed(losses)}, with '
        f'{_listed(step.learning_rates)}. {path} names the images of that batch. {REMEDY}'
    )


def _check_weights(runner, iteration: int) -> None:
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    # Buffers too: BatchNorm's running statistics.
    weights = {n: t for n, t in model.state_dict().items() if t.is_floating_point()}
    if not weights:
        return
    finite = torch.stack([weight.detach().isfinite().all() for weight in weights.values()])
    if finite.all():
        return
    spoiled = [name for name, good in zip(weights, finite.tolist(), strict=True) if not good]
    raise NonFiniteLossError(
        f'{len(spoiled)} tensors of the model are not finite after iteration {iteration}, first '
        f'{spoiled[0]}. The losses of this process were; a gradient was not, or the loss of '
        f'another process, which then says so. {REMEDY}'
    )


def _listed(values: dict) -> str:
    return ', '.join(f'{name} {value}' for name, value in values.items())
