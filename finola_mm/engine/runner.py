"""MMEngine's ``Runner`` with our memory layout on a GPU, options of DDP and optimizer groups."""

from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner as _Runner
from torch import nn
from torch.optim import Optimizer

from ..errors import UserError
from .param_groups import merge_param_groups


class Runner(_Runner):
    """MMEngine's ``Runner`` with three differences.

    * On a GPU, the weights of convolutions are stored in channels-last format, unless the config
      has ``channels_last = False``. The first convolution then converts the images, and maps keep
      the format. cuDNN's convolutions in 16-bit precision use it: without, each of them converts
      its input and output.
    * DDP, without ``model_wrapper_cfg``: gradients are views of the buckets that are communicated,
      which saves a copy of each. On a CPU, DDP gets no ``device_ids``.
    * Optimizer groups with equal options are merged (``merge_param_groups``).
    """

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Move the model to its device, and wrap it with DDP if there are several ranks."""
        model = set_memory_format(model, self.cfg)  # before DDP lays out its buckets
        if self.distributed:
            model_wrapper_cfg = model_wrapper_cfg or dict(
                broadcast_buffers=False,
                find_unused_parameters=self.cfg.get('find_unused_parameters', False),
                gradient_as_bucket_view=True,
            )
            if get_device() != 'cuda':  # DDP rejects MMEngine's device_ids=[LOCAL_RANK] there
                model_wrapper_cfg = {**model_wrapper_cfg, 'device_ids': None}
        return super().wrap_model(model_wrapper_cfg, model)

    def build_optim_wrapper(self, optim_wrapper: Any) -> OptimWrapper:
        """Build the optimizer of a config; return a wrapper that is built already."""
        built = super().build_optim_wrapper(optim_wrapper)
        if isinstance(built, OptimWrapperDict):
            raise UserError('optim_wrapper has several optimizers; expected one, with param groups')
        if built is not optim_wrapper:
            merge_param_groups(built.optimizer)
            built.optimizer.register_load_state_dict_post_hook(match_layout)
        return built


def set_memory_format(model: nn.Module, cfg: Config) -> nn.Module:
    """Store weights of convolutions in channels-last format if there is a GPU; see ``Runner``."""
    if get_device() == 'cuda' and cfg.get('channels_last', True):
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def match_layout(optimizer: Optimizer) -> None:
    """Store the state of an optimizer in the memory format of its parameters.

    The fused kernels on a GPU require this, but a checkpoint may come from a run with another
    format.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
