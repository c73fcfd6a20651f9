"""FINOLA, the four matrices by which a feature map unrolls.

Paper: "Image is First-order Norm+Linear Autoregressive", Section 2, Eq. 1 and 3; the ablations of
its step, Section 4.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional import (
    at_least_float32,
    finola,
    finola_blockwise,
    norm_linear_step,
)
from .finola_ablations import nonlinear_step, repeat, unroll

STEPS = ('norm_linear', 'norm_moving', 'linear', 'nonlinear', 'repeat', 'repeat_matched')


class FINOLALayer(nn.Module):
    """First-order norm+linear autoregression with learned steps in four directions.

    ``A`` steps to x+1 (right), ``A_neg`` to x-1, ``B`` to y+1 (down), ``B_neg`` to y-1; each is
    (C, C), shared by all positions and images. Initialised N(0, 1/C), on which the paper is
    silent: then one step is as large as the normalised vector that it is made from, at any width.

    The ablations, through ``step``:

    * ``'norm_moving'``: BatchNorm without affine instead of the norm over the channels. In training
      each step is normalised over its batch and chains; in eval mode by moving averages, one for
      each matrix, and then the step is linear. The paper: 25.1 dB in training, 16.3 dB after it.
    * ``'linear'``: no normalisation, z + A z.
    * ``'nonlinear'``: z + V gelu(U n(z)); the (2, C/2, C) numbers of U and V stand under the
      matrices' names and are as many.
    * ``'repeat'``: q at every position, no parameters.
    * ``'repeat_matched'``: q takes one norm+linear step by each of the four matrices and is then
      repeated: FINOLA's parameters without its map.

    Args:
        channels: C; even for ``'nonlinear'``.
        step: one of ``STEPS``. Defaults to ``'norm_linear'``, the paper's.
        eps: added to the variance in the norm.
    """

    def __init__(self, channels: int, *, step: str = 'norm_linear', eps: float = 1e-6):
        super().__init__()
        if step not in STEPS:
            raise ValueError(f'step is {step!r}; expected one of {", ".join(STEPS)}')
        if step == 'nonlinear' and channels % 2:
            raise ValueError(f"step 'nonlinear' halves the channels; {channels} is odd")
        self.channels, self.step, self.eps = channels, step, eps
        if step != 'repeat':
            shape = (2, channels // 2, channels) if step == 'nonlinear' else (channels, channels)
            self.A, self.A_neg, self.B, self.B_neg = (
                nn.Parameter(torch.empty(shape)) for _ in range(4)
            )
        if step == 'norm_moving':
            names = [name for name, _ in self.named_parameters()]
            self.norms = nn.ModuleDict(
                {name: nn.BatchNorm1d(channels, eps, affine=False) for name in names}
            )
        self.reset_parameters()

    def reset_parameters(self):
        for matrix in self.parameters():
            nn.init.normal_(matrix, std=self.channels**-0.5)

    def forward(
        self, q: Tensor, size: tuple[int, int], origin: tuple[int, int] | None = None
    ) -> Tensor:
        """(N, C), or (N, M, C) for M paths, -> (N, C, H, W) of ``size``; see ``finola``."""
        if self.step == 'norm_linear':
            return finola(q, self.A, self.A_neg, self.B, self.B_neg, size, origin, self.eps)
        q = at_least_float32(q)
        if self.step.startswith('repeat'):
            for matrix in self.parameters():
                q = norm_linear_step(q, matrix, self.eps)
            return repeat(q, size)
        return unroll(self.ablated_step, q, size, origin)

    def ablated_step(self, z: Tensor, name: str) -> Tensor:
        """z (..., C) to its neighbours in the direction of the matrix ``name``, (..., C)."""
        matrix = self.get_parameter(name)
        if self.step == 'nonlinear':
            return nonlinear_step(z, matrix, self.eps)
        if self.step == 'linear':
            return z + F.linear(z, matrix)
        return z + F.linear(self.norms[name](z.flatten(0, -2)).view_as(z), matrix)

    def blockwise(self, feat: Tensor, offset, steps: str = 'block') -> Tensor:
        """(N, C, h, w) at its offset in the map -> (N, C, 2h, 2w); see ``finola_blockwise``."""
        if self.step != 'norm_linear':
            raise ValueError(f"step is {self.step!r}; block-wise FINOLA has 'norm_linear' alone")
        return finola_blockwise(
            feat, offset, self.A, self.A_neg, self.B, self.B_neg, steps, self.eps
        )

    def extra_repr(self) -> str:
        return f'channels={self.channels}, step={self.step!r}, eps={self.eps}'
