"""Log losses without waiting for the GPU at every iteration."""

from typing import Any

import torch
from mmengine.hooks import LoggerHook
from mmengine.hooks import RuntimeInfoHook as _RuntimeInfoHook

from ...registry import HOOKS


@HOOKS.register_module()
class RuntimeInfoHook(_RuntimeInfoHook):
    """MMEngine's ``RuntimeInfoHook``, which reads losses from the GPU only when they are logged.

    MMEngine's hook reads them after every iteration and waits for the GPU. Here they are read
    before ``LoggerHook`` logs, at the end of an epoch and before a checkpoint. The logged values
    are the same. Losses on the CPU are read immediately.

    Args:
        max_history (int): Number of latest values kept of each logged scalar, for averages in the
            log. MMEngine keeps a million and copies all of them at every update. Defaults to 10000.
    """

    def __init__(self, *, max_history: int = 10_000):
        super().__init__()
        self.max_history = max_history
        self.pending: list[dict[str, Any]] = []  # outputs of the iterations not yet read

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.pending.append(outputs or {})
        if not _on_gpu(self.pending[-1]) or self._is_logged(runner, batch_idx):
            self._read(runner)

    def _is_logged(self, runner, batch_idx: int) -> bool:
        """Return whether ``LoggerHook`` logs this iteration, or it ends an epoch."""
        return self.end_of_epoch(runner.train_dataloader, batch_idx) or any(
            self.every_n_inner_iters(batch_idx, hook.interval)
            for hook in runner.hooks
            if isinstance(hook, LoggerHook)
        )

    def _read(self, runner) -> None:
        """Move the pending outputs into MMEngine's message hub; only the first may need to wait."""
        for outputs in self.pending:
            super().after_train_iter(runner, 0, outputs=outputs)
        self.pending = []
        for history in runner.message_hub.log_scalars.values():
            history.max_length = self.max_history

    def before_save_checkpoint(self, runner, checkpoint):
        if self.pending:
            self._read(runner)
            checkpoint['message_hub'] = runner.message_hub.state_dict()


def _on_gpu(outputs: dict[str, Any]) -> bool:
    return any(isinstance(value, torch.Tensor) and value.is_cuda for value in outputs.values())
