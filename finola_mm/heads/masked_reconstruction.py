"""The loss of masked FINOLA: mean squared error over the pixels of the masked region.

Paper: "Image is First-order Norm+Linear Autoregressive", Section 3, "the reconstruction loss is
computed only from the masked region"; Section 2, mean square error over image pixels.
The per-patch normalized target is MAE's option (arXiv 2111.06377, Section 3), off by default.

Legend: N images of Y x X pixels; a map of L = H*W positions, one for each p x p patch; K of them
masked.
"""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from ..functional import gather_tokens, image_to_patches, patches_to_image
from ..registry import MODELS


@MODELS.register_module()
class MaskedReconstructionHead(BaseModule):
    """Compare predicted patches with the original in the masked region.

    Args:
        patch_size (int): Side in pixels of the patch that one mask position covers.
            Defaults to 16.
        norm_pix (bool): Whether the target is normalized per patch. Defaults to False.
        init_cfg (dict, optional): MMEngine initialization config. Defaults to None.
    """

    def __init__(
        self, *, patch_size: int = 16, norm_pix: bool = False, init_cfg: dict | None = None
    ):
        super().__init__(init_cfg)
        self.patch_size = patch_size
        self.norm_pix = norm_pix

    def loss(self, pred: Tensor, images: Tensor, masked: Tensor) -> Tensor:
        """Compute the mean squared error of the masked patches, a scalar in float32.

        pred (N, K, 3*p*p) holds the predicted patches at the positions ``masked`` (N, K) of images
        (N, 3, Y, X). The loss is in the units of these images, normalized by the data preprocessor.
        """
        target = image_to_patches(images, self.patch_size)  # (N, L, 3*p*p)
        target = gather_tokens(target, masked)  # (N, K, 3*p*p)
        if self.norm_pix:
            mean, std = mean_std(target)
            target = (target - mean) / std
        return F.mse_loss(pred.float(), target)

    def denormalize(self, pred: Tensor, images: Tensor) -> Tensor:
        """Convert a prediction in the target's units to an image, both (N, 3, Y, X).

        With ``norm_pix`` each patch gets the mean and standard deviation of the *original* patch.
        The model does not predict them, so such an image and its PSNR overstate the model's
        quality.
        """
        if not self.norm_pix:
            return pred.float()
        pred, original = (image_to_patches(t, self.patch_size) for t in (pred.float(), images))
        mean, std = mean_std(original)
        grid = tuple(size // self.patch_size for size in images.shape[2:])
        return patches_to_image(pred * std + mean, self.patch_size, grid)

    def pixel_mask(self, mask: Tensor) -> Tensor:
        """Upsample a mask: (N, H, W) -> (N, 1, Y, X), both True = masked."""
        mask = mask.repeat_interleave(self.patch_size, 1)
        return mask.repeat_interleave(self.patch_size, 2)[:, None]


def mean_std(patches: Tensor, eps: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Compute mean and standard deviation of each patch, (N, L, 3*p*p) -> (N, L, 1) each.

    The variance is unbiased, as in MAE's code.
    """
    var, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return mean, (var + eps).sqrt()
