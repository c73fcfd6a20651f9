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

from ..errors import UserError
from ..functional import block_mask, copy_to_device, crop_block, masked_positions
from ..registry import MODELS
from .reconstructor import Reconstructor


@MODELS.register_module()
class MaskedFINOLA(Reconstructor):
    """Crop the visible block, encode it, unroll its features, upsample and compare.

    No pixel is blanked out: the encoder sees only the crop, and the loss compares only the masked
    patches. Data samples have ``block_offset``, (row, col) of the visible block in map positions,
    set by the transform ``RandomBlock``.

    Args:
        backbone (dict): Encoder, block (N, 3, h*p, w*p) -> tuple of maps, the last (N, C, h, w).
        neck (dict): FINOLA, ``BlockFINOLANeck`` or ``FINOLANeck``.
        upsampler (dict): Map z (N, C, H, W) -> image (N, 3, Y, X). An example is
            ``TransformerUpsampler``. It must have an attribute ``patch_size``, and its ``forward``
            must accept ``positions`` (N, K) and then return only those patches, (N, K, 3*p*p) in
            the order of ``image_to_patches``.
        head (dict): The loss, ``MaskedReconstructionHead``.
        block_size (tuple[int, int], optional): (h, w), the same as ``RandomBlock``'s. By default
            half the image's height and width, as ``BlockFINOLANeck`` requires.
        **kwargs: ``data_preprocessor`` and ``init_cfg`` of mmpretrain's ``BaseSelfSupervisor``.

    Raises:
        UserError: the patch sizes of upsampler and head differ.
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
        if self.upsampler.patch_size != self.head.patch_size:
            raise UserError(
                f'upsampler.patch_size must equal head.patch_size={self.head.patch_size}, got '
                f'{self.upsampler.patch_size}'
            )

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Images (N, 3, Y, X) and their block offsets -> ``{'loss': scalar}``.

        MMEngine's ``train_step`` calls this by ``forward(mode='loss')``, after the data
        preprocessor: images are normalized RGB in float32.
        """
        offset, mask = self.get_offsets_and_mask(inputs, data_samples)
        masked = copy_to_device(masked_positions(mask), inputs.device)  # (N, K), of positions
        pred = self.reconstruct(inputs, offset, masked)  # (N, K, 3*p*p)
        return {'loss': self.head.loss(pred, inputs, masked)}

    def reconstruct(
        self, images: Tensor, offset: Tensor, positions: Tensor | None = None
    ) -> Tensor:
        """Run the network of Fig. 2: images (N, 3, Y, X), offset (N, 2) -> prediction (N, 3, Y, X).

        With ``positions`` (N, K) of the map, return only their patches, (N, K, 3*p*p).
        """
        grid, block = self.map_sizes(images)
        visible = crop_block(images, offset, block, self.head.patch_size)  # (N, 3, h*p, w*p)
        feats = self.backbone(visible)  # the last one (N, C, h, w)
        z = self.neck(feats, offset)  # (N, C, H, W)
        if z.shape[2:] != grid:
            raise UserError(
                f'the map of the neck must have {grid} positions, one per patch of the image, got '
                f'{tuple(z.shape[2:])}. Set neck.size={grid}; BlockFINOLANeck needs the default '
                'block_size, half the image in each direction'
            )
        return self.upsampler(z, positions)

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: list[DataSample]) -> list[DataSample]:
        """Reconstruct every image, see ``add_reconstructions``; the masked region is predicted."""
        offset, mask = self.get_offsets_and_mask(inputs, data_samples)
        masks = self.head.pixel_mask(mask.to(inputs.device, non_blocking=True))
        pred = self.reconstruct(inputs, offset)
        return self.add_reconstructions(data_samples, inputs, pred, masks)

    def map_sizes(self, images: Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return (H, W) of the map and (h, w) of the visible block.

        Raises:
            UserError: the images cannot be divided into patches, or into four blocks of patches.
        """
        p, (height, width) = self.head.patch_size, images.shape[2:]
        unit = p if self.block_size else 2 * p
        if height % unit or width % unit:
            parts = 'patches' if self.block_size else 'four blocks of patches'
            raise UserError(
                f'height and width of the images must be multiples of {unit}, to divide into '
                f'{parts} of {p} x {p} pixels, got {height} x {width}'
            )
        grid = (height // p, width // p)
        return grid, tuple(self.block_size or (grid[0] // 2, grid[1] // 2))

    def get_offsets_and_mask(self, images: Tensor, data_samples) -> tuple[Tensor, Tensor]:
        """Return the blocks' offsets (N, 2) and mask (N, H, W), True = masked, both on the CPU."""
        grid, block = self.map_sizes(images)
        offset = torch.tensor([sample.block_offset for sample in data_samples])
        return offset, block_mask(offset, block, grid=grid)
