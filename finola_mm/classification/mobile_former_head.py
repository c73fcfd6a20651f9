"""The classifier of Mobile-Former's ImageNet family: two layers with h-swish.

Source: Mobile-Former (arXiv 2108.05895); h-swish on the pooled map, BatchNorm and the hidden width
are those of the official code, and they match the published sizes.

Legend: N images, the encoder's last map of C x h x w, tokens of width d, F hidden units, K classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..registry import MODELS
from .mobile_former_cls_head import MobileFormerClsHead


@MODELS.register_module()
class MobileFormerHead(MobileFormerClsHead):
    """Two linear layers on the map's average, after h-swish, and the first token.

    Args:
        num_classes (int): K.
        in_channels (int): C, the width of the encoder's last map.
        token_channels (int): d, the width of its tokens.
        hidden_channels (int): F.
        dropout (float): Before the last layer. Defaults to 0.
        **kwargs: ``loss``, ``topk``, ``cal_acc`` and ``init_cfg`` of mmpretrain's ``ClsHead``.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        token_channels: int,
        hidden_channels: int,
        *,
        dropout: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(in_channels, token_channels, **kwargs)
        first = nn.Linear(in_channels + token_channels, hidden_channels)
        self.hidden = nn.Sequential(
            first,
            nn.BatchNorm1d(hidden_channels),
            nn.Hardswish(),
            nn.Dropout(dropout),
        )
        self.fc = nn.Linear(hidden_channels, num_classes)
        for layer in (first, self.fc):  # as in Mobile-Former
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def pre_logits(self, feats: Sequence) -> Tensor:
        """(maps, tokens) -> the hidden units (N, F)."""
        x, token = self.unpack_features(feats)  # (N, C, h, w), (N, d)
        return self.hidden(torch.cat((F.hardswish(x.mean((2, 3))), token), 1))
