"""The upsampler of Masked-FINOLA-B: transformer blocks, then one linear layer per patch.

Paper: "Image is First-order Norm+Linear Autoregressive", Table 10, right column. There is no
positional embedding, as in the paper: block-wise FINOLA encodes the position in the features.
"""

from mmengine.model import BaseModule
from torch import Tensor, nn

from ..errors import UserError, as_user_error
from ..functional import patches_to_image
from ..layers import LayerNorm, TransformerBlock
from ..registry import MODELS


@MODELS.register_module()
class TransformerUpsampler(BaseModule):
    """Refine a feature map by transformer blocks and project each position to a patch.

    Args:
        in_channels (int): C, the width of the feature map.
        embed_dim (int): Width of the blocks. Defaults to 512 (Table 10).
        depth (int): Number of blocks, at least 1. Defaults to 6 (Table 10).
        num_heads (int): Heads of each block. Defaults to 16, 32 channels per head (not given in the
            paper).
        mlp_ratio (float): Ratio of the MLP's hidden width to ``embed_dim``. Defaults to 4.
        patch_size (int): Side of a patch in pixels, the stride of the map. Defaults to 16.
        init_cfg (dict, optional): MMEngine initialization config. Defaults to None.

    Raises:
        UserError: ``depth`` is below 1, or ``embed_dim`` is not a multiple of ``num_heads``.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dim: int = 512,
        *,
        depth: int = 6,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        patch_size: int = 16,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if depth < 1:
            raise UserError(f'depth must be at least 1, got {depth}')
        self.patch_size = patch_size
        self.embed = nn.Linear(in_channels, embed_dim)
        with as_user_error():
            self.blocks = nn.ModuleList(
                TransformerBlock(embed_dim, num_heads, mlp_ratio=mlp_ratio) for _ in range(depth)
            )
        self.norm = LayerNorm(embed_dim)
        self.to_patch = nn.Linear(embed_dim, 3 * patch_size**2)
        self.reset_parameters()

    def reset_parameters(self):
        """Initialize linear layers as in MAE: Xavier-uniform weights, zero biases."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, z: Tensor, positions: Tensor | None = None) -> Tensor:
        """(N, C, H, W) -> the image (N, 3, p*H, p*W), where p is the patch size.

        With ``positions`` (N, K) in 0..H*W-1, return only their patches, (N, K, 3*p*p); the
        last block and the output layer then skip the other positions.
        """
        x = self.embed(z.flatten(2).transpose(1, 2))  # (N, H*W, D)
        for block in self.blocks[:-1]:
            x = block(x)
        x = self.blocks[-1](x, positions)
        x = self.to_patch(self.norm(x))  # (N, H*W or K, 3*p*p)
        return patches_to_image(x, self.patch_size, z.shape[2:]) if positions is None else x
