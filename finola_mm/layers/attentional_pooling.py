"""Attentional pooling: reduce a feature map to one latent vector, or to several.

Paper: "Image is First-order Norm+Linear Autoregressive", Appendix B: "a single multi-head attention
layer with learnable queries, where the encoder output serves as both the keys and values". The
paper does not specify projections, normalization or positions. Here keys, values and the output are
projected without a norm, as in the layer's usual form (arXiv 1706.03762), and there are no
positions. Parameters without effect are omitted: a projection of the learned queries, a bias on
the keys (cancelled by the softmax) and one on the values (absorbed by the output's bias).

Legend: N images, C channels, h x w positions (L of them), M queries, D output channels, k heads.
"""

import torch
from torch import Tensor, nn


class AttentionalPooling(nn.Module):
    """Pool a map (N, C, h, w) by multi-head attention with M learned queries -> (N, M, D).

    Args:
        in_channels (int): Channels C of the map, a multiple of ``num_heads``.
        channels (int): Channels D of the output projection.
        num_queries (int): M. Defaults to 1.
        num_heads (int): Defaults to 8 (not given in the paper).
    """

    def __init__(
        self, in_channels: int, channels: int, *, num_queries: int = 1, num_heads: int = 8
    ):
        super().__init__()
        if in_channels % num_heads:
            raise ValueError(
                f'in_channels must be a multiple of num_heads={num_heads}, got {in_channels}'
            )
        self.num_heads = num_heads
        self.queries = nn.Parameter(torch.empty(num_queries, in_channels))
        self.key = nn.Parameter(torch.empty(in_channels, in_channels))
        self.value = nn.Parameter(torch.empty(in_channels, in_channels))
        self.out = nn.Linear(in_channels, channels)
        self.reset_parameters()

    def reset_parameters(self):
        """Draw queries from N(0, 1): smaller ones would all return the mean of the map."""
        nn.init.normal_(self.queries)
        for weight in (self.key, self.value, self.out.weight):
            nn.init.xavier_uniform_(weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, M, D).

        Projects the few queries and the pooled values, not the many positions:
        q (K x) = (q K) x and (V x) a = V (x a). This costs L*C multiply-adds per head, not L*C^2.
        """
        x = x.flatten(2)  # (N, C, L)
        queries, key, value = (
            t.unflatten(axis, (self.num_heads, -1))
            for t, axis in ((self.queries, 1), (self.key, 0), (self.value, 0))
        )  # (M, k, C/k), (k, C/k, C) twice
        queries = torch.einsum('mkd,kdc->mkc', queries, key).flatten(0, 1)  # (M*k, C)
        scale = (len(self.key) / self.num_heads) ** -0.5
        weights = torch.matmul(queries * scale, x).softmax(-1)  # (N, M*k, L)
        read = torch.matmul(weights.to(x.dtype), x.mT)  # (N, M*k, C)
        read = read.unflatten(1, (-1, self.num_heads))  # (N, M, k, C)
        read = torch.einsum('nmkc,kdc->nmkd', read, value)  # (N, M, k, C/k)
        return self.out(read.flatten(2))  # (N, M, D)

    def extra_repr(self) -> str:
        return f'num_queries={len(self.queries)}, num_heads={self.num_heads}'
