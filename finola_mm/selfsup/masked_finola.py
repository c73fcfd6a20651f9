"""Masked FINOLA: predict an image from one visible block.

Paper: "Image is First-order Norm+Linear Autoregressive", Section 3, Fig. 2 and 4.
Masked-FINOLA-B is this algorithm with ``BlockFINOLANeck`` and ``TransformerUpsampler``,
Masked-FINOLA-E with ``FINOLANeck`` and ``PatchUpsampler``.

Legend: N images of 3 x Y x X pixels; a map of H x W positions, one for each p x p patch; the
visible block h x w at offset (row, col); K = H*W - h*w positions masked; C channels.
"""

import torch
from mmpretrain.structures import DataSample
from torch import Tensor

from ..functional import block_mask, crop_block, masked_positions
from ..registry import MODELS
from .reconstructor import Reconstructor


@MODELS.register_module()
class MaskedFINOLA(Reconstructor):
    """Encode the visible block, unroll its features over the map, upsample, compare.

    Data samples carry ``block_offset``, (row, col) of the visible block in map positions, as the
    transform ``RandomBlock`` sets it.

    Args:
        backbone (dict): Encoder, block (N, 3, h*p, w*p) -> tuple of maps, the last (N, C, h, w).
        neck (dict): FINOLA, ``BlockFINOLANeck`` or ``FINOLANeck``.
        upsampler (dict): Map (N, C, H, W) -> image (N, 3, Y, X), or patches of it.
        head (dict): The loss, ``MaskedReconstructionHead``.
        block_size (tuple[int, int], optional): (h, w), the same as ``RandomBlock``'s. By default
            half the image's height and width, and ``BlockFINOLANeck`` needs it so.
        **kwargs: ``data_preprocessor`` and ``init_cfg`` of mmpretrain's ``BaseSelfSupervisor``.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        upsampler: dict,
        head: dict,
        *,
        block_size: tuple[int, int] | None = None,
        **kwargs,
    ):
        super().__init__(backbone, neck, upsampler, head, **kwargs)
        self.block_size = block_size

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Images (N, 3, Y, X) and their block offsets -> ``{'loss': scalar}``."""
        offset, mask = self.get_blocks(inputs, data_samples)
        masked = masked_positions(mask)  # (N, K)
        if inputs.is_cuda:  # from pageable memory the copy would wait for the device
            masked = masked.pin_memory().to(inputs.device, non_blocking=True)
        pred = self.reconstruct(inputs, offset, masked)  # (N, K, 3*p*p)
        return {'loss': self.head.loss(pred, inputs, masked)}

    def reconstruct(self, images: Tensor, offset: Tensor, keep: Tensor | None = None) -> Tensor:
        """The network of Fig. 2: images (N, 3, Y, X) at ``offset`` (N, 2) -> prediction, same.

        keep (N, K): positions of the map; then -> the prediction's patches there, (N, K, 3*p*p).
        """
        grid, block = self.map_sizes(images)
        visible = crop_block(images, offset, block, self.head.patch_size)  # (N, 3, h*p, w*p)
        feats = self.backbone(visible)  # the last one (N, C, h, w)
        z = self.neck(feats, offset)  # (N, C, H, W)
        if z.shape[2:] != grid:
            raise ValueError(
                f'the neck makes a map of {tuple(z.shape[2:])} positions, and the image has {grid} '
                'patches; set neck.size to it (BlockFINOLANeck wants a block of a quarter)'
            )
        return self.upsampler(z, keep)

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: list[DataSample]) -> list[DataSample]:
        """Complete every image: see ``add_reconstructions``; what is masked counts as predicted."""
        offset, mask = self.get_blocks(inputs, data_samples)
        masks = self.head.pixel_mask(mask.to(inputs.device))
        return self.add_reconstructions(
            data_samples, inputs, self.reconstruct(inputs, offset), masks
        )

    def map_sizes(self, images: Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
        """(H, W) of the map and (h, w) of the visible block.

        Raises:
            ValueError: images which do not divide into patches, or not into four blocks of them.
        """
        p, (height, width) = self.head.patch_size, images.shape[2:]
        unit = p if self.block_size else 2 * p
        if height % unit or width % unit:
            parts = 'patches' if self.block_size else 'four blocks of patches'
            raise ValueError(
                f'images of {height} x {width} pixels do not divide into {parts} of {p} x {p} '
                f'pixels; use multiples of {unit}'
            )
        grid = (height // p, width // p)
        return grid, tuple(self.block_size or (grid[0] // 2, grid[1] // 2))

    def get_blocks(self, images: Tensor, data_samples) -> tuple[Tensor, Tensor]:
        """What is visible: offset (N, 2), mask (N, H, W) with True = masked, both on the CPU."""
        grid, block = self.map_sizes(images)
        offset = torch.tensor([sample.block_offset for sample in data_samples])
        return offset, block_mask(offset, block, grid=grid)
