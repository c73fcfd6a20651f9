"""mmdet's data preprocessor for detection, without waiting for the GPU."""

from typing import Any

from mmdet.models import DetDataPreprocessor as _DetDataPreprocessor

from ..registry import MODELS


@MODELS.register_module()
class DetDataPreprocessor(_DetDataPreprocessor):
    """mmdet's ``DetDataPreprocessor`` with non-blocking copies to the GPU.

    mmdet reorders the channels by a list of indices, whose copy to the GPU makes the CPU wait. Here
    they are flipped.

    Args:
        bgr_to_rgb (bool): Whether to reverse the channels. Defaults to False.
        **kwargs: Other arguments of mmdet's class, such as ``mean`` and ``std``.
    """

    def __init__(self, *, bgr_to_rgb: bool = False, **kwargs: Any):
        super().__init__(**{'non_blocking': True, **kwargs})
        self.bgr_to_rgb = bgr_to_rgb

    def forward(self, data: dict, training: bool = False) -> dict:
        """Images, N x (3, h, w) -> one padded batch (N, 3, H, W), normalized, float32."""
        data = self.cast_data(data)
        if self.bgr_to_rgb:
            data['inputs'] = [image.flip(0) for image in data['inputs']]
        return super().forward(data, training)
