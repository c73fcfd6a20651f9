"""Running statistics that all processes share."""

from collections.abc import Iterator

from mmengine.dist import all_reduce_params, is_distributed
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor, nn

from ...registry import HOOKS


@HOOKS.register_module()
class SyncBuffersHook(Hook):
    """mmengine's hook of this name, for what is being trained alone.

    BatchNorm learns from the images of its own process, so that each process has running statistics
    of its own. Here the buffers of all modules in training mode become their average over the
    processes: after every epoch, in loops over iterations after every iteration. kNN, checkpoint
    and validation come later, and find on all processes the model that the checkpoint holds. So do
    the buffers of its average by ``EMAHook``, which are what the model's were after an iteration.

    mmengine's averages all buffers, and the average of equal values is off by a rounding error, so
    that the statistics of a frozen encoder would not stay as they are; in loops over iterations it
    averages after the checkpoint was written.
    """

    priority = 'VERY_HIGH'  # before KNNHook

    def after_train_epoch(self, runner: Runner) -> None:
        model = trained_model(runner)
        for part in (model, *averaged_models(runner)):
            synchronise(part, model)

    def after_train_iter(self, runner: Runner, batch_idx, data_batch=None, outputs=None) -> None:
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            model = trained_model(runner)
            synchronise(model, model)


def synchronise(model: nn.Module, trained: nn.Module) -> None:
    """Average over the processes, if there are several, what is being trained."""
    if is_distributed():
        all_reduce_params(buffers_in_training(model, trained), op='mean')


def buffers_in_training(model: nn.Module, trained: nn.Module) -> Iterator[Tensor]:
    """Those of ``model`` whose modules are in training mode in ``trained``, built alike."""
    for part, module in zip(model.modules(), trained.modules(), strict=True):
        if module.training:
            yield from part.buffers(recurse=False)


def trained_model(runner: Runner) -> nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def averaged_models(runner: Runner) -> list[nn.Module]:
    """Averages over the iterations, by ``EMAHook``; mostly none."""
    return [hook.ema_model.module for hook in runner.hooks if isinstance(hook, EMAHook)]
