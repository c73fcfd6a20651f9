"""Parameters, gradients and moments shared out among the processes (FSDP), and a run that goes on.

A config has it by ``runner_type = 'FlexibleRunner'`` and a ``strategy``
(configs/selfsup/masked_finola_b_fsdp.py).
"""

from collections.abc import Callable

from mmengine._strategy import FSDPStrategy
from mmengine.config import Config
from torch.distributed.fsdp import FullyShardedDataParallel

from ..errors import CheckpointError
from ..registry import STRATEGIES

# Hooks that take the weights from the model themselves, and would find this process's share.
OF_WHOLE_WEIGHTS = ('EMAHook', 'KNNHook')
# Settings that FlexibleRunner passes over without a word. The gradient would be clipped, but each
# process's share by itself.
WITHOUT_EFFECT = ('sync_bn', 'compile', 'efficient_conv_bn_eval', 'activation_checkpointing')


@STRATEGIES.register_module()
class ResumableFSDPStrategy(FSDPStrategy):
    """MMEngine's ``FSDPStrategy`` with checkpoints that a run can go on from.

    As it is, MMEngine 0.10.12 hands the optimizer's state to torch in the order of arguments of
    torch 2.0, so that a resume fails, and keeps no loss scale. Arguments are the host's.
    """

    def load_checkpoint(self, filename: str, *, callback: Callable | None = None, **kwargs) -> dict:
        """As the host does, but hooks compare the file with the whole model."""

        def on_whole_model(checkpoint: dict) -> None:
            with FullyShardedDataParallel.summon_full_params(self.model, writeback=False):
                callback(checkpoint)

        return super().load_checkpoint(filename, callback=callback and on_whole_model, **kwargs)

    def optim_state_dict(self) -> dict:
        """With what the wrapper adds to the optimizer's own: base rate, loss scale."""
        return {**self.optim_wrapper.state_dict(), **super().optim_state_dict()}

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Give each process its share.

        Raises:
            CheckpointError: the state is of a run without FSDP.
        """
        if not all(isinstance(name, str) for name in state_dict['state']):
            raise CheckpointError(
                'the checkpoint was written without FSDP, and numbers the parameters: resume it '
                'with the config that it was made by, or start from its weights by --cfg-options '
                'load_from=... instead'
            )
        share = FullyShardedDataParallel.optim_state_dict_to_load(
            self.model, self.optim_wrapper.optimizer, state_dict
        )
        self.optim_wrapper.load_state_dict({**state_dict, **share})


def is_sharded(cfg: Config) -> bool:
    """Whether the processes of this config's runs share out the parameters."""
    return str(cfg.get('strategy', {}).get('type')).endswith('FSDPStrategy')


def check_sharded(cfg: Config) -> None:
    """Refuse what does not go with shared out parameters.

    Raises:
        ValueError: one process without a launcher, a hook that needs the whole weights, or a
            setting that would do nothing or something else.
    """
    if not is_sharded(cfg):
        return
    if cfg.launcher == 'none':
        raise ValueError(
            f'{cfg.filename} shares the parameters out among processes: start it by '
            'tools/dist_train.sh or tools/slurm_train.sh'
        )
    settings = [name for name in WITHOUT_EFFECT if cfg.get(name)]
    settings += ['optim_wrapper.clip_grad'] if cfg.optim_wrapper.get('clip_grad') else []
    if settings:
        raise ValueError(
            f'{" and ".join(settings)} of {cfg.filename} does not go with parameters that are '
            'shared out (FSDP): leave it out of this config'
        )
    hooks = [*cfg.get('default_hooks', {}).values(), *(cfg.get('custom_hooks') or [])]
    names = {str(hook.get('type')).rpartition('.')[2] for hook in hooks if hook}
    found = sorted(names.intersection(OF_WHOLE_WEIGHTS))
    if found:
        raise ValueError(
            f'{" and ".join(found)} of {cfg.filename} would see a share of the weights in each '
            'process (FSDP): leave it out of this config'
        )
