"""The FINOLA box of Fig. 1: pool the encoder's map to one latent vector, and unroll it over a map.

Paper: "Image is First-order Norm+Linear Autoregressive", Section 2, Appendix B; several paths and
finer maps as in arXiv 2310.12976 and the second version. Masked-FINOLA-E has the same box (Fig. 4
left). The paper does not specify where q lies when the block floats; here it lies at the block's
centre. The encoder sees only the block, so q at the map's centre would not encode its position.

Legend: N images, the encoder's map of h x w positions, M paths, C channels, z of H x W positions.
"""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..errors import as_user_error
from ..layers import AttentionalPooling, FINOLALayer, PlaneWavePooling
from ..registry import MODELS


@MODELS.register_module()
class FINOLANeck(BaseModule):
    """Attentional pooling to M latent vectors (one by default), then FINOLA over the map.

    The latent consists of M*C numbers. Its M vectors, one per query of the pooling, are unrolled
    with the same matrices, and their maps are summed.

    Args:
        in_channels (int): Width of the encoder's last map.
        channels (int): C, the width of a latent vector and of the map.
        size (int | tuple[int, int]): (H, W) of the map, or the side of a square one. Defaults
            to 16.
        num_paths (int): M. Defaults to 1.
        num_heads (int): Heads of the pooling. Defaults to 8 (not given in the paper).
        max_frequency (float, optional): Start as plane waves of up to this frequency, in radians
            per position: the matrices of ``functional.plane_waves``, and ``PlaneWavePooling`` in
            place of the attentional pooling. Ours, not the papers'; for whole images. Defaults to
            None.
        origin (tuple[int, int], optional): (row, col) of q, for all images. By default the centre
            of the encoder's view: that of the map, (H//2, W//2), or that of the visible block.
        step (str): ``'norm_linear'``, or an ablation of ``layers.FINOLALayer``.
        eps (float): Added to the variance in the norm. Defaults to 1e-6.
        init_cfg (dict, optional): MMEngine initialization config. Defaults to None.

    Raises:
        UserError: a width is not divisible as required, or ``step`` is unknown.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        size: int | tuple[int, int] = 16,
        num_paths: int = 1,
        num_heads: int = 8,
        max_frequency: float | None = None,
        origin: tuple[int, int] | None = None,
        step: str = 'norm_linear',
        eps: float = 1e-6,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        height, width = (size, size) if isinstance(size, int) else size
        self.size = (height, width)
        self.origin = origin
        with as_user_error():
            if max_frequency is None:
                self.pooling: nn.Module = AttentionalPooling(
                    in_channels, channels, num_queries=num_paths, num_heads=num_heads
                )
            else:
                self.pooling = PlaneWavePooling(
                    in_channels,
                    channels,
                    size=self.size,
                    origin=origin or (height // 2, width // 2),
                    max_frequency=max_frequency,
                    num_vectors=num_paths,
                )
            self.finola = FINOLALayer(channels, step=step, eps=eps, max_frequency=max_frequency)

    def forward(self, feats: Sequence[Tensor], offset: Tensor | None = None) -> Tensor:
        """Pool the last of ``feats`` (N, C', h, w) and unroll it -> z (N, C, H, W).

        offset (N, 2): place in z of the h x w positions; if None, they cover the whole image.
        """
        q = self.pool(feats)  # (N, M, C)
        if offset is None or self.origin is not None:
            return self.latent_to_map(q)
        height, width = feats[-1].shape[2:]
        centre = torch.as_tensor(offset) + torch.tensor((height // 2, width // 2))
        return self.finola(q, self.size, centre)

    def pool(self, feats: Sequence[Tensor]) -> Tensor:
        """Pool the last of ``feats`` (N, C', h, w) -> q (N, M, C)."""
        return self.pooling(feats[-1])

    def latent_to_map(self, q: Tensor) -> Tensor:
        """Unroll q (N, M, C), or (N, C) for one path -> z (N, C, H, W)."""
        return self.finola(q, self.size, self.origin)
