"""The tran-k decoder: k transformer blocks on the encoder's map, then a linear classifier.

Paper: "Image is First-order Norm+Linear Autoregressive", Appendix B; widths 192, 384 and 768, and
dropout, Table 13. Implied by the published sizes: the MLP ratio of 4, a projection of the final map
instead of an earlier one, and the first token concatenated with the average. Not given in the paper
and chosen here: 64 channels per head and a final norm, as in ViT (arXiv 2010.11929); no positional
embedding, as in the paper's upsampler; dropout before the classifier, as in Mobile-Former.

Legend: N images, the encoder's last map of C x h x w (L = h * w positions), tokens of width d,
D the decoder's width, K classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import as_user_error
from ..layers import TransformerBlock
from ..registry import MODELS
from .mobile_former_cls_head import MobileFormerClsHead


@MODELS.register_module()
class TransformerHead(MobileFormerClsHead):
    """Transformer blocks over the positions, then a classifier on their average and first token.

    Args:
        num_classes (int): K.
        in_channels (int): C, the width of the encoder's last map.
        token_channels (int): d, the width of its tokens.
        embed_dim (int): D, a multiple of ``num_heads``.
        num_heads (int): Heads of each block.
        depth (int): k, the number of blocks. Defaults to 1.
        dropout (float): Dropout on the classifier's input. Defaults to 0.
        **kwargs: ``loss``, ``topk``, ``cal_acc`` and ``init_cfg`` of mmpretrain's ``ClsHead``.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        token_channels: int,
        embed_dim: int,
        *,
        num_heads: int,
        depth: int = 1,
        dropout: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(in_channels, token_channels, **kwargs)
        self.embed = nn.Linear(in_channels, embed_dim)
        with as_user_error():
            self.blocks = nn.ModuleList(
                TransformerBlock(embed_dim, num_heads) for _ in range(depth)
            )
        self.norm = nn.LayerNorm(embed_dim)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(embed_dim + token_channels, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize with Xavier-uniform, as in the upsampler; the classifier from N(0, 0.01)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.fc.weight, std=0.01)

    def pre_logits(self, feats: Sequence) -> Tensor:
        """(maps, tokens) -> the input of the classifier, (N, D + d)."""
        x, token = self.unpack_features(feats)  # (N, C, h, w), (N, d)
        x = self.embed(x.flatten(2).transpose(1, 2))  # (N, L, D)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x).mean(1)  # (N, D)
        return self.dropout(torch.cat((x, token), 1))
