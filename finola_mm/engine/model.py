"""Access to the model of a run."""

from mmengine.model import is_model_wrapper
from torch import nn


def unwrap_model(model: nn.Module) -> nn.Module:
    """Return the model inside a wrapper such as DistributedDataParallel, or ``model`` itself."""
    return model.get_submodule('module') if is_model_wrapper(model) else model
