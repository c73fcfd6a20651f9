"""The loss of masked FINOLA: mean squared error over the pixels of the masked region.

Paper: "Image is First-order Norm+Linear Autoregressive", Section 3, "the reconstruction loss is
computed only from the masked region"; Section 2, mean square error over image pixels.
The per-patch normalised target is MAE's option (arXiv 2111.06377, Section 3), off as in FINOLA.
"""

from mmengine.model import BaseModule
from torch import Tensor

from ..functional import patch_mean_std
from ..registry import MODELS


@MODELS.register_module()
class MaskedReconstructionHead(BaseModule):
    """Compare a predicted image with the original where the encoder has not looked.

    Args:
        patch_size (int): Side in pixels of the patch that one mask position stands for.
            Defaults to 16.
        norm_pix (bool): Whether the target is normalised per patch. Defaults to False.
        init_cfg (dict, optional): Initialization config dict.
    """

    def __init__(
        self, *, patch_size: int = 16, norm_pix: bool = False, init_cfg: dict | None = None
    ):
        super().__init__(init_cfg)
        self.patch_size = patch_size
        self.norm_pix = norm_pix

    def loss(self, pred: Tensor, images: Tensor, mask: Tensor) -> Tensor:
        """Mean squared error of the masked pixels, a scalar in float32.

        pred, images (N, 3, H, W); mask (N, H/p, W/p) bool, True = masked (counts).
        """
        mask = self.pixel_mask(mask.to(pred.device, non_blocking=True))  # (N, 1, H, W)
        error = (pred.float() - self.target(images)) ** 2
        return (error * mask).sum() / (mask.sum() * images.shape[1])

    def target(self, images: Tensor) -> Tensor:
        """What the prediction is compared with, (N, 3, H, W)."""
        if not self.norm_pix:
            return images
        mean, std = patch_mean_std(images, self.patch_size)
        return (images - mean) / std

    def reconstruct(self, pred: Tensor, images: Tensor) -> Tensor:
        """Prediction -> image, (N, 3, H, W), the inverse of :meth:`target`.

        With ``norm_pix`` each patch gets its mean and deviation back from the *original*: the
        model has not predicted them, so such a picture (and its PSNR) flatters the model.
        """
        if not self.norm_pix:
            return pred.float()
        mean, std = patch_mean_std(images, self.patch_size)
        return pred.float() * std + mean

    def pixel_mask(self, mask: Tensor) -> Tensor:
        """(N, H/p, W/p) -> (N, 1, H, W), both True = masked."""
        mask = mask.repeat_interleave(self.patch_size, 1)
        return mask.repeat_interleave(self.patch_size, 2)[:, None]
