"""FINOLA: reconstruct an image from one latent vector.

Paper: "Image is First-order Norm+Linear Autoregressive", Section 2, Fig. 1.

Legend: N images of 3 x H x W; q is M latent vectors of C channels, one by default; z a map of C
channels.
"""

import torch
from mmpretrain.structures import DataSample
from torch import Tensor

from ..registry import MODELS
from .reconstructor import Reconstructor


@MODELS.register_module()
class FINOLA(Reconstructor):
    """Encode the image to q, unroll q over a map, upsample, and compare with the image.

    Args:
        backbone (dict): Encoder, image (N, 3, H, W) -> tuple of maps.
        neck (dict): ``FINOLANeck``.
        upsampler (dict): Map z -> image (N, 3, H, W), ``ConvUpsampler``.
        head (dict): The loss, ``ReconstructionHead``.
        **kwargs: ``data_preprocessor`` and ``init_cfg`` of mmpretrain's ``BaseSelfSupervisor``.
    """

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Images (N, 3, H, W) -> ``{'loss': scalar}``; the data samples are not used."""
        return {'loss': self.head.loss(self.reconstruct(inputs), inputs)}

    def reconstruct(self, images: Tensor) -> Tensor:
        """Run the network of Fig. 1: normalized images -> prediction, both (N, 3, H, W)."""
        feats = self.backbone(images)
        z = self.neck(feats)  # (N, C, H', W')
        return self.upsampler(z)

    def encode(self, images: Tensor) -> Tensor:
        """Run the first half: normalized images (N, 3, H, W) -> q (N, M, C)."""
        return self.neck.pool(self.backbone(images))

    def decode(self, q: Tensor) -> Tensor:
        """Run the second half: q (N, M, C), or (N, C) for one path -> prediction (N, 3, H, W)."""
        return self.upsampler(self.neck.latent_to_map(q))

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: list[DataSample]) -> list[DataSample]:
        """Reconstruct whole images; see ``add_reconstructions``."""
        masks = inputs.new_ones(len(inputs), 1, *inputs.shape[2:], dtype=torch.bool)
        return self.add_reconstructions(data_samples, inputs, self.reconstruct(inputs), masks)
