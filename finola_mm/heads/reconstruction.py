"""The loss of vanilla FINOLA: mean squared error over all pixels.

Paper: "Image is First-order Norm+Linear Autoregressive", Section 2, "mean square error over image
pixels as loss".
"""

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from ..registry import MODELS


@MODELS.register_module()
class ReconstructionHead(BaseModule):
    """Compare predicted images with the originals, as the encoder sees them: normalised."""

    def loss(self, pred: Tensor, images: Tensor) -> Tensor:
        """Mean squared error, a scalar in float32; pred and images (N, 3, H, W).

        Raises:
            ValueError: the prediction has another size.
        """
        if pred.shape != images.shape:
            raise ValueError(
                f'images of shape {tuple(images.shape)} are predicted as {tuple(pred.shape)}; '
                "the neck's size times the upsampler's scale must be the image's size"
            )
        return F.mse_loss(pred.float(), images)

    def denormalize(self, pred: Tensor, images: Tensor) -> Tensor:
        """Prediction (N, 3, H, W) in the target's units -> image (N, 3, H, W), the same here."""
        return pred.float()
