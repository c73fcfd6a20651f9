"""AdamW with ``fused=True`` on every supported torch."""

from collections.abc import Iterable
from typing import Any

import torch

from ..functional.compat import fuses_adamw
from ..registry import OPTIMIZERS


@OPTIMIZERS.register_module()
class FusedAdamW(torch.optim.AdamW):
    """torch's AdamW; ``fused`` is ignored on a device for which torch has no fused AdamW.

    Before torch 2.4 these are CPUs, where torch's own class raises an error. The other arguments,
    and the results up to rounding, are those of ``torch.optim.AdamW``.
    """

    def __init__(self, params: Iterable, *args: Any, fused: bool | None = None, **kwargs: Any):
        params = list(params)  # of tensors, or of groups
        tensors = [
            t for entry in params for t in (entry['params'] if isinstance(entry, dict) else [entry])
        ]
        if not all(fuses_adamw(tensor.device.type) for tensor in tensors):
            fused = None
        super().__init__(params, *args, fused=fused, **kwargs)
