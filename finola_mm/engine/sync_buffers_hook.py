"""Running statistics that all processes share."""

from collections.abc import Iterator

from mmengine.dist import all_reduce_params, is_distributed
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from ..registry import HOOKS


@HOOKS.register_module()
class SyncBuffersHook(Hook):
    """mmengine's hook of this name, for what is being trained alone.

    After every epoch the buffers of all modules in training mode become their average over the
    processes. mmengine's averages all buffers, and the average of equal values is off by a rounding
    error, so that the statistics of a frozen encoder would not stay as they are. For runs that
    count epochs, as all of detection here.
    """

    def after_train_epoch(self, runner: Runner) -> None:
        """Average over the processes, if there are several."""
        if is_distributed():
            all_reduce_params(trained_buffers(runner.model), op='mean')


def trained_buffers(model: nn.Module) -> Iterator[Tensor]:
    """Those of the modules that are in training mode."""
    for module in model.modules():
        if module.training:
            yield from module.buffers(recurse=False)
