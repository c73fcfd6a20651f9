"""Mobile-Former block: Mobile and Former in parallel, with a bridge in each direction.

Source: Mobile-Former (arXiv 2108.05895), Sec. 3.1, Eq. 1-2, and Fig. 3. The gate of Mobile->Former
is not in that paper's text; its width and bias are implied by the published parameter counts.

The heads of the bridges are computed in a loop: each works on its slice of the channels without a
copy, in any memory format, and the positions remain the largest dimension of every product. With
six tokens this is faster than torch's fused attention on a CPU.

Autocast applies to Mobile alone. Six tokens cost less to multiply in float32 than their weights to
cast, each by a kernel of its own; products with the map are computed in the map's dtype.

Legend: N images, C channels, H x W positions, T tokens of width d, h heads; mask: True = padding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional import masked_avg_pool
from .autocast import without_autocast
from .mobile import Mobile, MobileDown


class MobileFormerBlock(nn.Module):
    """Mobile-Former block with Mobile, Former and both bridges.

    Tokens attend to the map and to each other, control the dynamic ReLUs, and update the map.

    Args:
        in_channels (int): Channels of the map.
        hidden_channels (int): Expanded channels inside Mobile.
        out_channels (int): Channels of the output map.
        token_dim (int): Width d of a token.
        stride (int): 1 or 2.
        dynamic_relu (str): 'plain' or 'spatial', see :class:`DynamicReLU`.
        groups (int): Of the 1x1 convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        token_dim: int,
        *,
        stride: int = 1,
        dynamic_relu: str = 'plain',
        groups: int = 1,
    ) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f'stride must be 1 or 2, got {stride!r}')
        if dynamic_relu not in ('plain', 'spatial'):
            raise ValueError(f"dynamic_relu must be 'plain' or 'spatial', got {dynamic_relu!r}")
        self.spatial = dynamic_relu == 'spatial'
        mobile = Mobile if stride == 1 else MobileDown
        self.to_former = MobileToFormer(in_channels, token_dim)
        self.former = Former(token_dim)
        self.mobile = mobile(in_channels, hidden_channels, out_channels, token_dim, groups=groups)
        self.to_mobile = FormerToMobile(out_channels, token_dim)

    def forward(
        self, x: Tensor, tokens: Tensor, padding_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(N, in_channels, H, W), (N, T, d) -> (N, out_channels, H/stride, W/stride), (N, T, d).

        Sizes are rounded up. Positions marked in ``padding_mask`` (N, H, W) are ignored.
        """
        with without_autocast(x):
            mix = self.mixture(x, tokens, padding_mask)
            tokens = self.to_former(x, tokens, padding_mask)
            tokens = self.former(tokens)
        x = self.mobile(x, tokens, mix, padding_mask)
        with without_autocast(x):
            x = self.to_mobile(x, tokens)
        return x, tokens

    def mixture(self, x: Tensor, tokens: Tensor, padding_mask: Tensor | None) -> Tensor | None:
        """Return token weights for the spatial-aware dynamic ReLU; None in the plain form."""
        if not self.spatial:
            return None
        return self.to_former.mixture(x, tokens, padding_mask, stride=self.mobile.stride)


class MobileToFormer(nn.Module):
    """Gated cross-attention from the tokens to the map, residual, LayerNorm (Eq. 1).

    Keys and values are the map itself, without a projection.

    Args:
        channels (int): Channels C of the map, a multiple of ``heads``.
        token_dim (int): Width d of a token.
        heads (int): Attention heads; each uses C / heads channels of the map.
    """

    def __init__(self, channels: int, token_dim: int, *, heads: int = 2) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f'channels must be a multiple of heads={heads}, got {channels}')
        self.heads = heads
        self.scale = (channels / heads) ** -0.5
        self.query = nn.Linear(token_dim, channels)
        self.gate = nn.Linear(token_dim, channels)
        self.out = nn.Linear(channels, token_dim)
        self.norm = nn.LayerNorm(token_dim)

    def forward(self, x: Tensor, tokens: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Map (N, C, H, W) and tokens (N, T, d) -> updated tokens (N, T, d)."""
        read = self.attend(x, tokens, padding_mask)  # (N, T, C)
        read = read * (2 * F.hardsigmoid(self.gate(tokens)))
        return self.norm(tokens + self.out(read))  # (N, T, d)

    def attend(self, x: Tensor, tokens: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        """Compute the attention of the tokens over the map, (N, T, C)."""
        query = (self.query(tokens) * self.scale).to(x.dtype)  # (N, T, C)
        reads = []
        for q, kv in zip(query.chunk(self.heads, 2), x.chunk(self.heads, 1), strict=True):
            kv = kv.flatten(2)  # (N, C/h, HW)
            logits = torch.bmm(q, kv)  # (N, T, HW)
            if padding_mask is not None:
                logits = logits.masked_fill(padding_mask.flatten(1)[:, None], float('-inf'))
            weights = logits.softmax(dim=2)  # (N, T, HW)
            reads.append(torch.bmm(weights, kv.transpose(1, 2)))  # (N, T, C/h)
        return torch.cat(reads, dim=2)

    def mixture(
        self,
        x: Tensor,
        tokens: Tensor,
        padding_mask: Tensor | None = None,
        *,
        stride: int = 1,
    ) -> Tensor:
        """Return each position's weights over the tokens, (N, T, ceil(H/stride), ceil(W/stride)).

        They are the softmax, over the tokens, of the logits averaged over the heads and over the
        positions that a stride merges. The average of q_h k_h over the heads is the product over
        all channels divided by h.
        """
        query = self.query(tokens) * (self.scale / self.heads)
        logits = torch.bmm(query.to(x.dtype), x.flatten(2))  # (N, T, HW)
        logits = logits.unflatten(2, x.shape[2:])  # (N, T, H, W)
        if stride > 1:
            logits = masked_avg_pool(logits, stride, padding_mask)
        return logits.softmax(dim=1)


class Former(nn.Module):
    """Self-attention and a feed-forward network on the tokens, post-norm.

    Keys and values are the tokens themselves, without a projection.

    Args:
        token_dim (int): Width d of a token, a multiple of ``heads``.
        heads (int): Attention heads.
        expansion (int): Ratio of the feed-forward network's hidden width to d.
    """

    def __init__(self, token_dim: int, *, heads: int = 4, expansion: int = 2) -> None:
        super().__init__()
        if token_dim % heads:
            raise ValueError(f'token_dim must be a multiple of heads={heads}, got {token_dim}')
        self.heads = heads
        self.query = nn.Linear(token_dim, token_dim)
        self.out = nn.Linear(token_dim, token_dim)
        self.norm1 = nn.LayerNorm(token_dim)
        self.ffn = nn.Sequential(
            nn.Linear(token_dim, expansion * token_dim),
            nn.GELU(),
            nn.Linear(expansion * token_dim, token_dim),
        )
        self.norm2 = nn.LayerNorm(token_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (N, T, d) -> tokens (N, T, d)."""
        tokens = self.norm1(tokens + self.attend(tokens))
        return self.norm2(tokens + self.ffn(tokens))

    def attend(self, tokens: Tensor) -> Tensor:
        """Apply multi-head attention with raw keys and values, (N, T, d) -> (N, T, d)."""
        query = self.query(tokens)
        heads = (t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in (query, tokens, tokens))
        read = F.scaled_dot_product_attention(*heads)  # (N, h, T, d/h)
        return self.out(read.transpose(1, 2).flatten(2))  # (N, T, d)


class FormerToMobile(nn.Module):
    """Cross-attention from the map to the tokens, residual (Eq. 2).

    The query is the map itself; neither the query nor the output is projected.

    Args:
        channels (int): Channels C of the map, a multiple of ``heads``.
        token_dim (int): Width d of a token.
        heads (int): Attention heads.
    """

    def __init__(self, channels: int, token_dim: int, *, heads: int = 2) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f'channels must be a multiple of heads={heads}, got {channels}')
        self.heads = heads
        self.scale = (channels / heads) ** -0.5
        self.key = nn.Linear(token_dim, channels)
        self.value = nn.Linear(token_dim, channels)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Map (N, C, H, W) and tokens (N, T, d) -> updated map (N, C, H, W)."""
        key = (self.key(tokens) * self.scale).to(x.dtype)  # (N, T, C)
        value = self.value(tokens).to(x.dtype)
        parts = x.chunk(self.heads, 1), key.chunk(self.heads, 2), value.chunk(self.heads, 2)
        updated = []
        for q, k, v in zip(*parts, strict=True):
            q = q.flatten(2)  # (N, C/h, HW)
            weights = torch.bmm(k, q).softmax(dim=1)  # (N, T, HW)
            updated.append(torch.baddbmm(q.mT, weights.mT, v))  # (N, HW, C/h)
        rows = torch.cat(updated, dim=2)  # (N, HW, C)
        return rows.mT.unflatten(2, x.shape[2:])  # (N, C, H, W)
