"""The loss of vanilla FINOLA: mean squared error over all pixels.

Paper: "Image is First-order Norm+Linear Autoregressive", Section 2, "mean square error over image
pixels as loss".
"""

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from ..errors import UserError
from ..registry import MODELS


@MODELS.register_module()
class ReconstructionHead(BaseModule):
    """Compare predicted images with the originals, both normalized by the data preprocessor."""

    def loss(self, pred: Tensor, images: Tensor) -> Tensor:
        """Compute the mean squared error, a scalar in float32; pred and images (N, 3, H, W).

        Raises:
            UserError: the prediction has a different size.
        """
        if pred.shape != images.shape:
            raise UserError(
                f"the prediction must have the images' shape {tuple(images.shape)}, got "
                f'{tuple(pred.shape)}. Set neck.size and upsampler.scale so that their product is '
                "the image's size"
            )
        return F.mse_loss(pred.float(), images)

    def denormalize(self, pred: Tensor, images: Tensor) -> Tensor:
        """Return the prediction (N, 3, H, W), whose units are already those of the images."""
        return pred.float()
