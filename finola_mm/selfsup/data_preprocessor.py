"""mmpretrain's data preprocessor for pre-training, without waiting for the GPU."""

from typing import Any

from mmpretrain.models import SelfSupDataPreprocessor as _SelfSupDataPreprocessor

from ..registry import MODELS


@MODELS.register_module()
class SelfSupDataPreprocessor(_SelfSupDataPreprocessor):
    """mmpretrain's ``SelfSupDataPreprocessor`` with non-blocking copies to the GPU.

    mmpretrain reorders the channels by a list of indices, whose copy to the GPU makes the CPU wait.
    Here they are flipped.

    Args:
        to_rgb (bool): Whether to reverse the channels, from BGR to RGB. Defaults to False.
        **kwargs: Other arguments of mmpretrain's class, such as ``mean`` and ``std``.
    """

    def __init__(self, *, to_rgb: bool = False, **kwargs: Any):
        super().__init__(**{'non_blocking': True, **kwargs})
        self.to_rgb = to_rgb

    def forward(self, data: dict, training: bool = False) -> dict:
        """Images (N, 3, H, W), or a list of them for several views -> normalized, float32."""
        data = self.cast_data(data)
        if self.to_rgb:
            inputs = data['inputs']
            views = inputs if isinstance(inputs, list) else [inputs]
            views = [view.flip(1) for view in views]
            data['inputs'] = views if isinstance(inputs, list) else views[0]
        return super().forward(data, training)
