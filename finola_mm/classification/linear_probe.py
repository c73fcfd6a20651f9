"""The lin decoder: one linear layer on the features of a frozen encoder.

Paper: "Image is First-order Norm+Linear Autoregressive", Appendix C, linear probing with "an
additional BatchNorm layer without affine transformation", as in MAE (arXiv 2111.06377), whose eps
of 1e-6 and initialization N(0, 0.01) are also used.

Legend: N images, the encoder's last map of C x h x w, tokens of width d, K classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..registry import MODELS
from .mobile_former_cls_head import MobileFormerClsHead


@MODELS.register_module()
class LinearProbeHead(MobileFormerClsHead):
    """BatchNorm without affine, then a linear layer on the map's average and the first token.

    Args:
        num_classes (int): K.
        in_channels (int): C, the width of the encoder's last map.
        token_channels (int): d, the width of its tokens.
        **kwargs: ``loss``, ``topk``, ``cal_acc`` and ``init_cfg`` of mmpretrain's ``ClsHead``.
    """

    def __init__(self, num_classes: int, in_channels: int, token_channels: int, **kwargs: Any):
        super().__init__(in_channels, token_channels, **kwargs)
        self.norm = nn.BatchNorm1d(in_channels + token_channels, eps=1e-6, affine=False)
        self.fc = nn.Linear(in_channels + token_channels, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def pre_logits(self, feats: Sequence) -> Tensor:
        """(maps, tokens) -> the input of the linear layer, (N, C + d)."""
        x, token = self.unpack_features(feats)  # (N, C, h, w), (N, d)
        return self.norm(torch.cat((x.mean((2, 3)), token), 1))
