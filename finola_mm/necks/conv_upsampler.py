"""The upsampler of vanilla FINOLA: a stack of convolutions from the map to the pixels.

Paper: "Image is First-order Norm+Linear Autoregressive", Table 10, left column. A finer map enters
the stack at the row of its resolution and skips that row's up-conv. For a map of the image's own
size, one res-conv and one conv3x3 remain: the "three 3x3 convolution layers" in the abstract of the
paper's second version. Norm and activation are not given in the paper; VQGAN's are used
(``layers/upsampler.py``).
"""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from ..errors import UserError, as_user_error
from ..layers import ResConv, UpConv, checkpoint_module, norm_silu_conv
from ..registry import MODELS

# Table 10: the width of the res-conv at 16, 32, 64, 128 and 256 positions per side for an image of
# 256 x 256. An up-conv keeps the width of the row above it.
WIDTHS = (512, 256, 256, 128, 128)


@MODELS.register_module()
class ConvUpsampler(BaseModule):
    """Turn a feature map into an image ``scale`` times as high and wide.

    Args:
        in_channels (int): C, the width of the feature map.
        scale (int): Ratio of image size to map size: 16, 8, 4, 2 or 1. Selects the last
            ``log2(scale) + 1`` rows of the table. Defaults to 16.
        widths (Sequence[int]): Width of every row. Defaults to Table 10.
        num_groups (int): Groups of GroupNorm, a divisor of all widths. Defaults to 32.
        with_cp (bool): Recompute the activations of the blocks in the backward pass (activation
            checkpointing): this saves memory at the cost of time; the result is unchanged. Defaults
            to False.
        init_cfg (dict, optional): MMEngine initialization config. Defaults to None.

    Raises:
        UserError: ``scale`` is not in the table, or a width is not a multiple of ``num_groups``.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        scale: int = 16,
        widths: Sequence[int] = WIDTHS,
        num_groups: int = 32,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        scales = [2**i for i in range(len(widths))]
        if scale not in scales:
            raise UserError(
                f'scale must be one of {", ".join(map(str, scales))} for {len(widths)} widths, got '
                f'{scale!r}'
            )
        self.with_cp = with_cp
        width, *rest = widths[-1 - scales.index(scale) :]
        with as_user_error():
            self.blocks = nn.ModuleList([ResConv(in_channels, width, num_groups=num_groups)])
            for out in rest:
                self.blocks += [UpConv(width), ResConv(width, out, num_groups=num_groups)]
                width = out
            self.to_image = norm_silu_conv(width, 3, num_groups=num_groups)

    def forward(self, z: Tensor) -> Tensor:
        """(N, C, H, W) -> the image (N, 3, scale*H, scale*W)."""
        for block in self.blocks:
            z = checkpoint_module(block, z) if self.with_cp and self.training else block(z)
        return self.to_image(z)
