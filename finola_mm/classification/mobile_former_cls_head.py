"""What the classification decoders share: they read the encoder's last map and its first token.

Paper: "Image is First-order Norm+Linear Autoregressive", Appendix B, "Decoders for ImageNet
classification". What the classifier reads is not printed; the average of the map beside the first
token is what Mobile-Former's own classifier reads (arXiv 2108.05895), and it meets the published
sizes.

Legend: N images, the encoder's last map of C x h x w, T tokens of width d, K classes.
"""

from collections.abc import Sequence
from typing import Any

from mmpretrain.models import ClsHead
from torch import Tensor


class MobileFormerClsHead(ClsHead):
    """A head on ``MobileFormer(with_tokens=True)``, whose (maps, tokens) mmpretrain hands on as is.

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
            ValueError: maps alone, or other widths.
        """
        if len(feats) != 2 or isinstance(feats[0], Tensor):
            raise ValueError(
                f'{type(self).__name__} reads maps and tokens, and the backbone gives '
                f'{len(feats)} map(s) alone; set backbone.with_tokens=True'
            )
        maps, tokens = feats
        found = maps[-1].shape[1], tokens.shape[2]
        if found != (self.in_channels, self.token_channels):
            raise ValueError(
                f'the backbone gives {found[0]} channels and tokens of {found[1]}; the head has '
                f'in_channels={self.in_channels} and token_channels={self.token_channels}'
            )
        return maps[-1], tokens[:, 0]
