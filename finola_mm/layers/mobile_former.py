"""Mobile-Former block: Mobile and Former in parallel, a bridge each way (arXiv 2108.05895, Fig. 3).

Legend: N images, C channels, H x W positions, T tokens of width d; mask: True = padding.
"""

from torch import Tensor, nn

from .former import Former
from .former_to_mobile import FormerToMobile
from .mobile import Mobile, MobileDown
from .mobile_to_former import MobileToFormer


class MobileFormerBlock(nn.Module):
    """The tokens read the map, think, steer the convolutions, and are read back.

    Args:
        in_channels (int): Channels of the map.
        exp (int): Expanded channels inside Mobile.
        out (int): Channels of the new map.
        token_dim (int): Width d of a token.
        stride (int): 1 or 2.
        dynamic_relu (str): 'plain' or 'spatial', see :class:`DynamicReLU`.
    """

    def __init__(
        self,
        in_channels: int,
        exp: int,
        out: int,
        token_dim: int,
        *,
        stride: int = 1,
        dynamic_relu: str = 'plain',
    ) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f'stride must be 1 or 2, got {stride!r}')
        if dynamic_relu not in ('plain', 'spatial'):
            raise ValueError(f"dynamic_relu must be 'plain' or 'spatial', got {dynamic_relu!r}")
        self.spatial = dynamic_relu == 'spatial'
        self.to_former = MobileToFormer(in_channels, token_dim)
        self.former = Former(token_dim)
        self.mobile = (Mobile if stride == 1 else MobileDown)(in_channels, exp, out, token_dim)
        self.to_mobile = FormerToMobile(out, token_dim)

    def forward(
        self, x: Tensor, tokens: Tensor, padding: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(N, in_channels, H, W), (N, T, d) to (N, out, ceil(H/stride), ceil(W/stride)), (N, T, d).

        Nothing reads the positions where the mask ``padding`` (N, H, W) is True.
        """
        mix = self.mixture(x, tokens, padding)
        tokens = self.to_former(x, tokens, padding)
        tokens = self.former(tokens)
        x = self.mobile(x, tokens, mix, padding)
        x = x + self.to_mobile(x, tokens)
        return x, tokens

    def mixture(self, x: Tensor, tokens: Tensor, padding: Tensor | None) -> Tensor | None:
        """What the dynamic ReLUs mix the tokens with: None in the plain form."""
        if not self.spatial:
            return None
        return self.to_former.mixture(x, tokens, padding, stride=self.mobile.stride)
