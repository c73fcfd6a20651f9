"""Average BatchNorm statistics over ranks."""

from mmengine.dist import all_reduce_params, is_distributed
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from ...registry import HOOKS
from ..model import unwrap_model


@HOOKS.register_module()
class SyncBuffersHook(Hook):
    """Average the buffers of modules in training mode over all ranks.

    Each rank computes BatchNorm statistics from its own images. They are averaged after every
    epoch, and in iteration-based loops after every iteration. kNN, checkpoints and validation run
    later and therefore use the same model on every rank. The buffers of ``EMAHook``'s averaged
    model are included at the end of an epoch; after an iteration they are copies of the model's.

    This hook differs from MMEngine's hook of the same name in two ways. It excludes frozen modules,
    because averaging equal values causes rounding errors. In iteration-based loops, it averages
    before the checkpoint is saved.
    """

    priority = 'VERY_HIGH'  # before KNNHook

    def after_train_epoch(self, runner: Runner) -> None:
        model = unwrap_model(runner.model)
        for module in (model, *averaged_models(runner)):
            average_buffers(module, model)

    def after_train_iter(self, runner: Runner, batch_idx, data_batch=None, outputs=None) -> None:
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            model = unwrap_model(runner.model)
            average_buffers(model, model)


def average_buffers(model: nn.Module, trained: nn.Module) -> None:
    """Average over ranks the buffers of modules that are in training mode in ``trained``.

    Integer buffers are equal on all ranks, and their sum over many ranks would overflow.
    """
    if is_distributed():
        pairs = zip(model.modules(), trained.modules(), strict=True)
        parts = [part for part, module in pairs if module.training]
        buffers = (buffer for part in parts for buffer in part.buffers(recurse=False))
        all_reduce_params((b for b in buffers if b.is_floating_point()), op='mean')


def averaged_models(runner: Runner) -> list[nn.Module]:
    """Return the models that ``EMAHook`` averages over iterations, usually none."""
    return [hook.ema_model.module for hook in runner.hooks if isinstance(hook, EMAHook)]
