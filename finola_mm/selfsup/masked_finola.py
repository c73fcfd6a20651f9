"""Masked FINOLA: predict an image from one visible block.

Paper: "Image is First-order Norm+Linear Autoregressive", Section 3, Fig. 2 and 4.
Masked-FINOLA-B is this algorithm with ``BlockFINOLANeck`` and ``TransformerUpsampler``.

Legend: N images of 3 x H x W; a map of 2h x 2w positions, one for each p x p patch (H = 2h*p);
the visible block h x w at offset (row, col); C channels.
"""

import torch
from mmpretrain.models import BaseSelfSupervisor
from mmpretrain.structures import DataSample
from torch import Tensor

from ..functional import block_mask, crop_block, masked_positions
from ..registry import MODELS


@MODELS.register_module()
class MaskedFINOLA(BaseSelfSupervisor):
    """Encode the visible block, unroll its features over the map, upsample, compare.

    Data samples carry ``block_offset``, (row, col) of the visible block in map positions, as the
    transform ``RandomBlock`` sets it.

    Args:
        backbone (dict): Encoder, block (N, 3, h*p, w*p) -> tuple of maps, the last (N, C, h, w).
        neck (dict): FINOLA, ``BlockFINOLANeck``.
        upsampler (dict): Map (N, C, 2h, 2w) -> image (N, 3, H, W), or patches of it.
        head (dict): The loss, ``MaskedReconstructionHead``.
        **kwargs: ``data_preprocessor`` and ``init_cfg`` of mmpretrain's ``BaseSelfSupervisor``.
    """

    def __init__(self, backbone: dict, neck: dict, upsampler: dict, head: dict, **kwargs):
        super().__init__(backbone, neck=neck, head=head, **kwargs)
        self.upsampler = MODELS.build(upsampler)

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Images (N, 3, H, W) and their block offsets -> ``{'loss': scalar}``."""
        offset, mask = self.draw_block(inputs, data_samples)
        masked = masked_positions(mask)  # (N, 3*h*w)
        pred = self.complete(inputs, offset, masked)  # (N, 3*h*w, 3*p*p)
        return {'loss': self.head.loss(pred, inputs, masked)}

    def complete(self, images: Tensor, offset: Tensor, keep: Tensor | None = None) -> Tensor:
        """The network of Fig. 2: images (N, 3, H, W) at ``offset`` (N, 2) -> prediction, same.

        keep (N, K): positions of the map; then -> the prediction's patches there, (N, K, 3*p*p).
        """
        block = crop_block(images, offset, self.block_size(images), self.head.patch_size)
        feats = self.backbone(block)  # the last one (N, C, h, w)
        z = self.neck(feats, offset)  # (N, C, 2h, 2w)
        return self.upsampler(z, keep)

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: list[DataSample]) -> list[DataSample]:
        """Complete every image: its data sample gets, as RGB in [0, 1] and in this order,

        ``original`` (3, H, W), ``reconstruction`` (3, H, W) and ``mask`` (1, H, W), True = masked.
        """
        offset, mask = self.draw_block(inputs, data_samples)
        pred = self.head.reconstruct(self.complete(inputs, offset), inputs)
        originals, preds = self.to_pixels(inputs), self.to_pixels(pred)
        masks = self.head.pixel_mask(mask)
        for sample, *fields in zip(data_samples, originals, preds, masks, strict=True):
            for name, field in zip(('original', 'reconstruction', 'mask'), fields, strict=True):
                sample.set_field(field, name)
        return data_samples

    def forward(self, inputs, data_samples=None, mode='tensor'):
        """mmpretrain's modes 'tensor' and 'loss', and 'predict' for validation and test."""
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        return super().forward(inputs, data_samples, mode)

    def block_size(self, images: Tensor) -> tuple[int, int]:
        """(h, w) of the visible block: a quarter of the image, in map positions."""
        p = self.head.patch_size
        height, width = images.shape[2:]
        if height % (2 * p) or width % (2 * p):
            raise ValueError(
                f'images of {height} x {width} pixels do not divide into four blocks of '
                f'{p} x {p} patches; use multiples of {2 * p}'
            )
        return height // (2 * p), width // (2 * p)

    def draw_block(self, images: Tensor, data_samples) -> tuple[Tensor, Tensor]:
        """What is visible: offset (N, 2) on the CPU, mask (N, 2h, 2w) with True = masked."""
        offset = torch.tensor([sample.block_offset for sample in data_samples])
        mask = block_mask(offset, self.block_size(images))
        return offset, mask.to(images.device, non_blocking=True)

    def to_pixels(self, images: Tensor) -> Tensor:
        """Undo the data preprocessor: normalised (N, 3, H, W) -> RGB in [0, 1], not clamped."""
        preprocessor = self.data_preprocessor
        return (images * preprocessor.std + preprocessor.mean) / 255
