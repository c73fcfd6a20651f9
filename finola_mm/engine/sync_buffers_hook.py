"""Running statistics that all processes share."""

from collections.abc import Iterator

from mmengine.dist import all_reduce_params, is_distributed
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor, nn

from ..registry import HOOKS


@HOOKS.register_module()
class SyncBuffersHook(Hook):
    """mmengine's hook of this name, for what is being trained alone.

    BatchNorm learns from the images of its own process, so that each process has running statistics
    of its own. Here the buffers of all modules in training mode become their average over the
    processes: after every epoch, in loops over iterations after every iteration. kNN, checkpoint
    and validation come later, and find on all processes the model that the checkpoint holds (not
    its average by ``EMAHook``, whose buffers stay a process's own).

    mmengine's averages all buffers, and the average of equal values is off by a rounding error, so
    that the statistics of a frozen encoder would not stay as they are; in loops over iterations it
    averages after the checkpoint was written.
    """

    priority = 'VERY_HIGH'  # before KNNHook

    def after_train_epoch(self, runner: Runner) -> None:
        average_trained(runner.model)

    def after_train_iter(self, runner: Runner, batch_idx, data_batch=None, outputs=None) -> None:
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            average_trained(runner.model)


def average_trained(model: nn.Module) -> None:
    """Average what is being trained over the processes, if there are several."""
    if is_distributed():
        all_reduce_params(trained_buffers(model), op='mean')


def trained_buffers(model: nn.Module) -> Iterator[Tensor]:
    """Those of the modules that are in training mode."""
    for module in model.modules():
        if module.training:
            yield from module.buffers(recurse=False)
