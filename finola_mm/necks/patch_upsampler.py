"""The upsampler of Masked-FINOLA-E: one linear layer from each position to a patch.

Paper: "Image is First-order Norm+Linear Autoregressive", Section 3 and Table 10, middle column.
"""

from mmengine.model import BaseModule
from torch import Tensor, nn

from ..functional import gather_tokens, patches_to_image
from ..registry import MODELS


@MODELS.register_module()
class PatchUpsampler(BaseModule):
    """Project each position of a feature map to a patch of the image.

    Args:
        in_channels (int): C, the width of the feature map.
        patch_size (int): Side of a patch in pixels, the stride of the map. Defaults to 16.
        init_cfg (dict, optional): MMEngine initialization config. Defaults to None.
    """

    def __init__(self, in_channels: int, *, patch_size: int = 16, init_cfg: dict | None = None):
        super().__init__(init_cfg)
        self.patch_size = patch_size
        self.to_patch = nn.Linear(in_channels, 3 * patch_size**2)
        nn.init.xavier_uniform_(self.to_patch.weight)
        nn.init.zeros_(self.to_patch.bias)

    def forward(self, z: Tensor, positions: Tensor | None = None) -> Tensor:
        """(N, C, H, W) -> the image (N, 3, p*H, p*W), where p is the patch size.

        With ``positions`` (N, K) in 0..H*W-1, return only their patches, (N, K, 3*p*p).
        """
        x = z.flatten(2).transpose(1, 2)  # (N, H*W, C)
        x = self.to_patch(
            x if positions is None else gather_tokens(x, positions)
        )  # (N, H*W or K, 3*p*p)
        return patches_to_image(x, self.patch_size, z.shape[2:]) if positions is None else x
