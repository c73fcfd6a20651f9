"""FINOLA, the four matrices by which a feature map unrolls.

Paper: "Image is First-order Norm+Linear Autoregressive", Section 2, Eq. 1 and 3.
"""

import torch
from torch import Tensor, nn

from ..functional import finola, finola_blockwise


class FINOLA(nn.Module):
    """First-order norm+linear autoregression with learned steps in four directions.

    ``A`` steps to x+1 (right), ``A_neg`` to x-1, ``B`` to y+1 (down), ``B_neg`` to y-1; each is
    (C, C), shared by all positions and images. Initialised N(0, 1/C), on which the paper is
    silent: then one step is as large as the normalised vector that it is made from, at any width.
    """

    def __init__(self, channels: int, *, eps: float = 1e-6):
        super().__init__()
        self.A, self.A_neg, self.B, self.B_neg = (
            nn.Parameter(torch.empty(channels, channels)) for _ in range(4)
        )
        self.eps = eps
        self.reset_parameters()

    def reset_parameters(self):
        for matrix in self.parameters():
            nn.init.normal_(matrix, std=len(matrix) ** -0.5)

    def forward(
        self, q: Tensor, size: tuple[int, int], origin: tuple[int, int] | None = None
    ) -> Tensor:
        """(N, C), or (N, M, C) for M paths, -> (N, C, H, W) of ``size``; see ``finola``."""
        return finola(q, self.A, self.A_neg, self.B, self.B_neg, size, origin, self.eps)

    def blockwise(self, feat: Tensor, offset, steps: str = 'block') -> Tensor:
        """(N, C, h, w) at its offset in the map -> (N, C, 2h, 2w); see ``finola_blockwise``."""
        return finola_blockwise(
            feat, offset, self.A, self.A_neg, self.B, self.B_neg, steps, self.eps
        )

    def extra_repr(self) -> str:
        return f'channels={len(self.A)}, eps={self.eps}'
