"""The FINOLA box of Masked-FINOLA-B: unroll the visible block's features over the whole map.

Paper: "Image is First-order Norm+Linear Autoregressive", Section 3, Fig. 4 right.
There is no projection between encoder and FINOLA: C is the encoder's width (720, 1440, 2880).
"""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor

from ..errors import UserError
from ..layers import FINOLALayer
from ..registry import MODELS


@MODELS.register_module()
class BlockFINOLANeck(BaseModule):
    """Unroll the features of the visible block over the map with block-wise FINOLA.

    Args:
        channels (int): C, the width of the encoder's last map.
        steps (str): ``'block'``, one norm+linear step along each axis, however far the masked
            position is from its source, or ``'element'``, one step for each position in between.
            The paper's block offsets u, v are this distance in blocks, not ``block_offset``, the
            place of the visible block. Defaults to ``'block'``.
        eps (float): Added to the variance in the norm. Defaults to 1e-6.
        init_cfg (dict, optional): MMEngine initialization config. Defaults to None.

    Raises:
        UserError: ``steps`` is invalid.
    """

    dynamic_sizes = True  # for ``CompileHook``: the offsets decide the sizes of the products

    def __init__(
        self,
        channels: int,
        *,
        steps: str = 'block',
        eps: float = 1e-6,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if steps not in ('block', 'element'):
            raise UserError(f"steps must be 'block' or 'element', got {steps!r}")
        self.steps = steps
        self.finola = FINOLALayer(channels, eps=eps)

    def forward(self, feats: Sequence[Tensor], offset) -> Tensor:
        """Unroll the last of ``feats`` (N, C, h, w) at ``offset`` (N, 2) -> (N, C, 2h, 2w)."""
        return self.finola.blockwise(feats[-1], offset, self.steps)
