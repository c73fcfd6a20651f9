"""Base class of the classification heads, which use the encoder's last map and its first token.

Paper: "Image is First-order Norm+Linear Autoregressive", Appendix B, "Decoders for ImageNet
classification". The classifier's input is not given in the paper. The average of the map,
concatenated with the first token, is the input of Mobile-Former's own classifier
(arXiv 2108.05895), and it matches the published sizes.

Legend: N images, the encoder's last map of C x h x w, T tokens of width d, K classes.
"""

from collections.abc import Sequence
from typing import Any

from mmpretrain.models import ClsHead
from torch import Tensor

from ..errors import UserError


class MobileFormerClsHead(ClsHead):
    """A head on the (maps, tokens) of ``MobileFormer(with_tokens=True)``.

    Loss, accuracy and predictions are mmpretrain's.

    Args:
        in_channels (int): C, the width of the encoder's last map.
        token_channels (int): d, the width of its tokens.
        **kwargs: ``loss``, ``topk``, ``cal_acc`` and ``init_cfg`` of mmpretrain's ``ClsHead``.
    """

    def __init__(self, in_channels: int, token_channels: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.in_channels, self.token_channels = in_channels, token_channels

    def forward(self, feats: Sequence) -> Tensor:
        """(maps, tokens) -> the logits (N, K)."""
        return self.fc(self.pre_logits(feats))

    def unpack_features(self, feats: Sequence) -> tuple[Tensor, Tensor]:
        """(maps, tokens) -> the last map (N, C, h, w) and the first token (N, d).

        Raises:
            UserError: the backbone returns maps without tokens, or different widths.
        """
        if len(feats) != 2 or isinstance(feats[0], Tensor):
            raise UserError(
                f'{type(self).__name__} requires maps and tokens, but the backbone returned '
                f'{len(feats)} map(s) without tokens. Set backbone.with_tokens=True'
            )
        maps, tokens = feats
        found = maps[-1].shape[1], tokens.shape[2]
        if found != (self.in_channels, self.token_channels):
            raise UserError(
                f'the head expects in_channels={self.in_channels} and token_channels='
                f'{self.token_channels}, but the backbone returned {found[0]} channels and tokens '
                f'of {found[1]}. Set head.in_channels={found[0]} head.token_channels={found[1]}'
            )
        return maps[-1], tokens[:, 0]
