"""Stop a run when its loss or its weights become NaN or infinite."""

import json
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.dist import get_rank
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import IterBasedTrainLoop

from ...errors import NonFiniteLossError, list_names
from ...registry import HOOKS
from ..model import unwrap_model

REMEDY = (
    'Lower the learning rate, train in float32 instead of float16 or bfloat16, or repair the data. '
    'The last checkpoint contains only finite weights.'
)


class StepLosses(NamedTuple):
    """Outputs of one training step, possibly still being copied from the device."""

    report: dict[str, Any]  # the content of the JSON file, without the losses
    names: list[str]
    values: torch.Tensor  # (len(names),) float32 on the CPU, valid after `arrival`
    arrival: 'torch.cuda.Event | None'  # None: valid now


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop training when an output of a training step is NaN or infinite.

    Losses are copied from the device without blocking and checked a few iterations later. Before a
    checkpoint, before a validation, and at the end of an epoch and of the run, the hook waits for
    all pending losses and also checks the weights. Weights can become non-finite even if this
    rank's loss is finite: through a gradient, or through the loss of another rank.

    Raises:
        NonFiniteLossError: the loss or the weights are not finite. The message lists the losses,
            and a JSON file lists the images of the batch.
    """

    priority = 'VERY_HIGH'  # before checkpoints are written and weights are averaged

    def __init__(self):
        self.pending: deque[StepLosses] = deque()
        self.iteration = 0  # the last iteration, counted from 1

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.iteration = runner.iter + 1
        if outputs:
            self.pending.append(_record(runner, data_batch, outputs))
        if _checkpoint_is_due(runner):
            self._check_all(runner)
        while self.pending and _has_arrived(self.pending[0]):
            _check(runner, self.pending.popleft())

    def _check_all(self, runner, checkpoint=None) -> None:
        """Wait for all pending losses; check them, then the weights."""
        while self.pending:
            step = self.pending.popleft()
            if step.arrival is not None:
                step.arrival.synchronize()
            _check(runner, step)
        _check_weights(runner, self.iteration)

    after_train_epoch = before_val = after_train = before_save_checkpoint = _check_all


def _record(runner, data_batch, outputs: dict) -> StepLosses:
    values, arrival = _to_host(outputs)
    by_iteration = isinstance(runner.train_loop, IterBasedTrainLoop)
    report = dict(
        iteration=runner.iter + 1,
        epoch=None if by_iteration else runner.epoch + 1,
        rank=get_rank(),
        learning_rates={name: lr[0] for name, lr in runner.optim_wrapper.get_lr().items()},
        images=_image_names(data_batch),
    )
    return StepLosses(report, list(outputs), values, arrival)


def _to_host(outputs: dict) -> tuple[torch.Tensor, 'torch.cuda.Event | None']:
    """Copy the scalars of ``outputs`` to the CPU; on a GPU, also return the copy's CUDA event."""
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
    """Return the ``img_path`` of each sample of a batch, or its ``sample_idx``."""
    samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
    return [str(s.get('img_path', s.get('sample_idx', '?'))) for s in samples or ()]


def _checkpoint_is_due(runner) -> bool:
    """Return whether a checkpoint is due after this iteration.

    ``before_save_checkpoint`` is too late: MMEngine's hook has then deleted the oldest checkpoint.
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
    report = step.report
    iteration, epoch = report['iteration'], report['epoch']
    path = Path(runner.work_dir, f'nonfinite_loss_iter_{iteration}_rank_{get_rank()}.json')
    values = [f'{value:.6g}' for value in step.values.tolist()]  # JSON has no NaN
    losses = dict(zip(step.names, values, strict=True))
    path.write_text(json.dumps({**report, 'losses': losses}, indent=2))
    of_epoch = f' of epoch {epoch}' if epoch else ''
    raise NonFiniteLossError(
        f'the loss is not finite at iteration {iteration}{of_epoch}: {_listed(losses)}, with '
        f'{_listed(report["learning_rates"])}. {path} lists the images of the batch. {REMEDY}'
    )


def _check_weights(runner, iteration: int) -> None:
    state = unwrap_model(runner.model).state_dict()  # includes BatchNorm's running statistics
    weights = {n: t for n, t in state.items() if t.is_floating_point()}
    if not weights:
        return
    finite = torch.stack([weight.detach().isfinite().all() for weight in weights.values()])
    if finite.all():
        return
    bad = [name for name, good in zip(weights, finite.tolist(), strict=True) if not good]
    raise NonFiniteLossError(
        f'{len(bad)} tensors of the model are not finite after iteration {iteration}: '
        f'{list_names(bad)}. The losses of rank {get_rank()} are finite, so either a gradient or '
        f'the loss of another rank (which reports it) was not. {REMEDY}'
    )


def _listed(values: dict) -> str:
    return ', '.join(f'{name} {value}' for name, value in values.items())
