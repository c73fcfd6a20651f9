"""Pool a feature map to the latent vector whose plane waves are closest to it.

Ours, in place of the paper's attentional pooling, which does not know where a feature lies. If the
matrices are those of ``functional.plane_waves``, q is unrolled to z(p) = R(p) q with a rotation
R(p) at each position p. Among all q, the mean of R(p)^-1 f(p) minimizes the sum over p of
|R(p) q - f(p)|^2, for any features f of the encoder: the rotated mean is unrolling, inverted.

Legend: N images, C' channels of the encoder, h x w positions (L of them), M vectors of C channels,
H x W the map to be unrolled.
"""

import math

import torch
from torch import Tensor, nn

from ..functional import plane_wave_basis


class PlaneWavePooling(nn.Module):
    """Pool a map (N, C', h, w) that covers the same image as a map of H x W -> q (N, M, C).

    A linear layer maps the features to C channels, the channels of each plane are turned back by
    their waves' phase, and the sum over positions is mapped back from the basis of the planes. The
    sum is divided by the square root of L, so that q is about as large as the features. The layers
    are trained; the frequencies are not.

    Args:
        in_channels (int): C'.
        channels (int): C, even.
        size (tuple[int, int]): (H, W).
        origin (tuple[int, int]): (row, col) of q in H x W.
        max_frequency (float): In radians per position of H x W.
        num_vectors (int): M. Defaults to 1.

    Raises:
        ValueError: ``channels`` is odd.
    """

    frequencies: Tensor

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        size: tuple[int, int],
        origin: tuple[int, int],
        max_frequency: float,
        num_vectors: int = 1,
    ):
        super().__init__()
        self.size, self.origin = size, origin
        self.channels = channels
        basis, frequencies = plane_wave_basis(channels, max_frequency)
        self.register_buffer('frequencies', frequencies.float(), persistent=False)
        self.value = nn.Linear(in_channels, num_vectors * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.value.weight)
        nn.init.zeros_(self.value.bias)
        self.out.weight.data.copy_(basis)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C', h, w) -> (N, M, C)."""
        phase = self.phases(*x.shape[2:])[:, None]  # (L, 1, C/2)
        values = self.value(x.flatten(2).mT)  # (N, L, M*C)
        first, second = values.unflatten(2, (-1, self.channels // 2, 2)).unbind(-1)
        cos, sin = phase.cos(), phase.sin()
        turned = (cos * first + sin * second, cos * second - sin * first)  # (N, L, M, C/2) twice
        total = torch.stack([part.sum(1) for part in turned], -1).flatten(2)  # (N, M, C)
        return self.out(total / math.sqrt(len(phase)))

    def phases(self, height: int, width: int) -> Tensor:
        """Phase of each wave at the centres of h x w cells -> (h * w, C/2)."""
        y, x = (
            (torch.arange(cells, device=self.frequencies.device) + 0.5) * (positions / cells)
            - 0.5
            - start
            for cells, positions, start in zip((height, width), self.size, self.origin, strict=True)
        )
        along_x, along_y = self.frequencies.unbind(1)
        return (y[:, None, None] * along_y + x[:, None] * along_x).flatten(0, 1)

    def extra_repr(self) -> str:
        return f'size={self.size}, origin={self.origin}'
