"""Base class of the two algorithms: adds an upsampler, and images for validation and testing.

Legend: N images of 3 x Y x X pixels.
"""

from mmpretrain.models import BaseSelfSupervisor
from mmpretrain.structures import DataSample
from torch import Tensor

from ..registry import MODELS
from .encoder_map import describe_map, freeze_unused, lacks_widths, with_defaults


class Reconstructor(BaseSelfSupervisor):
    """A self-supervised algorithm that predicts pixels: backbone, neck, upsampler and head.

    If neck or upsampler lack a width, the width and stride of the encoder's last map determine
    widths and patch sizes, and parameters that this map does not depend on, such as those of later
    stages, are frozen.

    Args:
        backbone (dict): Encoder, image -> tuple of maps, of which the last is used.
        neck (dict): FINOLA, the last map -> a larger one.
        upsampler (dict): Map -> image.
        head (dict): The loss.
        **kwargs: ``data_preprocessor`` and ``init_cfg`` of mmpretrain's ``BaseSelfSupervisor``.
    """

    def __init__(self, backbone: dict, neck: dict, upsampler: dict, head: dict, **kwargs):
        encoder = MODELS.build(backbone)
        if lacks_widths(neck, upsampler):
            channels, stride, unused = describe_map(encoder)
            freeze_unused(encoder, unused)
            neck = with_defaults(neck, in_channels=channels, channels=channels)
            upsampler = with_defaults(upsampler, in_channels=neck['channels'], patch_size=stride)
            head = with_defaults(head, patch_size=stride)
        super().__init__(encoder, neck=neck, head=head, **kwargs)
        self.upsampler = MODELS.build(upsampler)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        """Add mode 'predict', for validation and test, to mmpretrain's 'tensor' and 'loss'."""
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        return super().forward(inputs, data_samples, mode)

    def add_reconstructions(
        self, data_samples: list[DataSample], images: Tensor, pred: Tensor, masks: Tensor
    ) -> list[DataSample]:
        """Add ``original``, ``reconstruction`` and ``mask`` to every data sample.

        The first two are (3, Y, X), RGB in [0, 1]; the mask is (1, Y, X), True = predicted.
        ``images`` and ``pred`` (N, 3, Y, X) are normalized; ``masks`` is (N, 1, Y, X).
        """
        originals = self.to_pixels(images)
        preds = self.to_pixels(self.head.denormalize(pred, images))
        for sample, *fields in zip(data_samples, originals, preds, masks, strict=True):
            for name, field in zip(('original', 'reconstruction', 'mask'), fields, strict=True):
                sample.set_field(field, name)
        return data_samples

    def to_pixels(self, images: Tensor) -> Tensor:
        """Invert the data preprocessor: normalized (N, 3, Y, X) -> RGB in [0, 1], not clamped."""
        preprocessor = self.data_preprocessor
        return (images * preprocessor.std + preprocessor.mean) / 255
