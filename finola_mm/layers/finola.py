"""The FINOLA layer: four learned matrices that unroll a feature map, and the paper's ablations.

Paper: "Image is First-order Norm+Linear Autoregressive", Section 2, Eq. 1 and 3; the ablations of
its step are in Section 4, and the repeated vector in "Exploring Invariance in Images through
One-way Wave Equations" (arXiv 2310.12976). The ablations use the readable loop of
``functional.recurrence``; only the paper's own step has a fused implementation.

Legend: N images, M paths, C channels, H x W positions, h x w the visible block.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional import (
    at_least_float32,
    channel_norm,
    finola,
    finola_blockwise,
    norm_linear_step,
    plane_waves,
    unroll,
    unroll_from_origins,
)

STEPS = ('norm_linear', 'norm_moving', 'linear', 'nonlinear', 'repeat', 'repeat_matched')


class FINOLALayer(nn.Module):
    """First-order norm+linear autoregression with learned steps in four directions.

    ``A`` steps to x+1 (right), ``A_neg`` to x-1, ``B`` to y+1 (down), ``B_neg`` to y-1; each is
    (C, C), shared by all positions and images. The paper does not specify the initialization. It is
    N(0, 1/C): one step is then as large as the normalized vector it starts from, at any width.

    Ablations, selected by ``step``:

    * ``'norm_moving'``: BatchNorm without affine parameters replaces the norm over the channels. In
      training each step is normalized over its batch and positions; in eval mode with moving
      averages, one set per matrix, so that the step is linear. The paper reports 25.1 dB in
      training and 16.3 dB in eval mode.
    * ``'linear'``: no normalization, z + A z.
    * ``'nonlinear'``: z + V gelu(U n(z)). U and V, (2, C/2, C) per direction, are stored under the
      matrices' names and have the same number of parameters.
    * ``'repeat'``: q at every position, no parameters.
    * ``'repeat_matched'``: q takes one norm+linear step with each of the four matrices and is then
      repeated, which matches FINOLA's parameter count without unrolling a map.

    Args:
        channels (int): C; even for ``'nonlinear'``.
        step (str): One of ``STEPS``. Defaults to ``'norm_linear'``, as in the paper.
        eps (float): Added to the variance in the norm. Defaults to 1e-6.
        max_frequency (float, optional): Start from the matrices of ``functional.plane_waves``, for
            which the map is a sum of plane waves of up to this frequency (ours; for
            ``'norm_linear'``). By default the elements are drawn independently.
    """

    def __init__(
        self,
        channels: int,
        *,
        step: str = 'norm_linear',
        eps: float = 1e-6,
        max_frequency: float | None = None,
    ):
        super().__init__()
        if step not in STEPS:
            raise ValueError(f'step must be one of {", ".join(STEPS)}, got {step!r}')
        if step == 'nonlinear' and channels % 2:
            raise ValueError(
                f"step='nonlinear' requires an even number of channels, got {channels}"
            )
        if max_frequency is not None and step != 'norm_linear':
            raise ValueError(f"plane waves require step='norm_linear', got {step!r}")
        self.channels, self.step, self.eps = channels, step, eps
        self.max_frequency = max_frequency
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
        if self.max_frequency is not None:
            for name, waves in plane_waves(self.channels, self.max_frequency).items():
                self.get_parameter(name).data.copy_(waves)

    def forward(
        self,
        q: Tensor,
        size: tuple[int, int],
        origin: tuple[int, int] | Tensor | None = None,
    ) -> Tensor:
        """(N, C), or (N, M, C) for M paths -> (N, C, H, W) of ``size``; see ``finola``.

        origin: (row, col) of q in all maps, or (N, 2) integers on the CPU, one for each image.
        """
        if self.step.startswith('repeat'):
            return self.repeat(at_least_float32(q), size)
        if isinstance(origin, Tensor):
            return unroll_from_origins(self.take_step, at_least_float32(q), size, origin)
        if self.step == 'norm_linear':
            return finola(q, self.A, self.A_neg, self.B, self.B_neg, size, origin, self.eps)
        return unroll(self.take_step, at_least_float32(q), size, origin)

    def blockwise(self, feat: Tensor, offset, steps: str = 'block') -> Tensor:
        """(N, C, h, w) at its offset in the map -> (N, C, 2h, 2w); see ``finola_blockwise``."""
        if self.step != 'norm_linear':
            raise ValueError(f"block-wise FINOLA requires step='norm_linear', got {self.step!r}")
        return finola_blockwise(
            feat, offset, self.A, self.A_neg, self.B, self.B_neg, steps, self.eps
        )

    def take_step(self, z: Tensor, name: str) -> Tensor:
        """Step z (..., C) with the matrix ``name``; there is none in the repeated vectors."""
        matrix = self.get_parameter(name)
        if self.step == 'norm_linear':
            return norm_linear_step(z, matrix, self.eps)
        if self.step == 'linear':
            return z + F.linear(z, matrix)
        if self.step == 'nonlinear':  # matrix (2, C/2, C) holds U and the transpose of V
            hidden = F.gelu(F.linear(channel_norm(z, self.eps), matrix[0]))  # (..., C/2)
            return z + torch.matmul(hidden, matrix[1])
        return z + F.linear(self.norms[name](z.flatten(0, -2)).view_as(z), matrix)

    def repeat(self, q: Tensor, size: tuple[int, int]) -> Tensor:
        """Repeat q (N, C) or (N, M, C) over a map, its paths summed -> (N, C, H, W)."""
        for matrix in self.parameters():  # none for 'repeat', four for 'repeat_matched'
            q = norm_linear_step(q, matrix, self.eps)
        q = q if q.ndim == 2 else q.sum(1)  # (N, C)
        return q[:, :, None, None].expand(-1, -1, *size)

    def extra_repr(self) -> str:
        return f'channels={self.channels}, step={self.step!r}, eps={self.eps}'
