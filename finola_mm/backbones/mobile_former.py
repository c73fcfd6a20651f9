"""Mobile-Former, the encoder of FINOLA.

Paper: "Image is First-order Norm+Linear Autoregressive", Appendix, Table 9; the architecture is
that of Mobile-Former (arXiv 2108.05895), here ending at stride 16. W1440's first block of stage 4
is printed 288 -> 96, a misprint for 576 -> 176. The published counts decide what the text leaves
open: parameters 4.95 / 11.80 / 25.10 M and MAdds 5.5 / 20.2 / 77.4 G at 800x1333.

Legend: N images of H x W, C channels, T tokens of width d.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..layers import BneckLite, MobileFormerBlock, recompute
from ..layers.mobile import pointwise
from ..registry import MODELS

# Table 9. tokens: number T, width d. stages: (expanded, output) channels of each block; stage 1
# is bneck-lite at the stem's stride 2, the first block of every later stage halves the map.
ARCHS: dict[str, dict[str, Any]] = {
    'w2880': dict(
        tokens=(6, 256),
        stem=64,
        stages=(
            ((128, 64),),
            ((384, 112), (336, 112)),
            ((672, 192), (576, 192), (576, 192)),
            ((1152, 352), (1408, 352), (1408, 352), (2112, 480), (2880, 480), (2880, 480)),
        ),
        out=2880,
    ),
    'w1440': dict(
        tokens=(6, 256),
        stem=32,
        stages=(
            ((64, 32),),
            ((192, 56), (168, 56)),
            ((336, 96), (288, 96), (288, 96)),
            ((576, 176), (704, 176), (704, 176), (1056, 240), (1440, 240), (1440, 240)),
        ),
        out=1440,
    ),
    'w720': dict(
        tokens=(6, 192),
        stem=16,
        stages=(
            ((32, 16),),
            ((96, 28), (84, 28)),
            ((168, 48), (144, 48), (144, 48)),
            ((240, 80), (320, 88), (480, 88), (528, 120), (720, 120), (720, 120)),
        ),
        out=720,
    ),
    # Not the paper's: a tenth of W720 for demonstrations and tests on a CPU, with few channels
    # where the map is large and multiples of 16, the width of its vectors.
    'small': dict(
        tokens=(6, 64),
        stem=16,
        stages=(
            ((16, 16),),
            ((32, 16),),
            ((48, 32), (96, 32)),
            ((96, 64), (128, 64), (128, 64), (192, 64)),
        ),
        out=256,
    ),
}


def widened(arch: dict[str, Any], factor: float) -> dict[str, Any]:
    """An arch with stem and stages ``factor`` times as wide, tokens and output as they are."""
    stages = tuple(
        tuple((int(factor * exp), int(factor * out)) for exp, out in stage)
        for stage in arch['stages']
    )
    return {**arch, 'stem': int(factor * arch['stem']), 'stages': stages}


# The published 43.5 M and 67.6 M fit only with the output kept at 2880 channels.
ARCHS['w4320'] = widened(ARCHS['w2880'], 1.5)
ARCHS['w5760'] = widened(ARCHS['w2880'], 2)

# The forms of dynamic ReLU, in the order of the code that a state dict carries.
DYNAMIC_RELU = ('plain', 'spatial')


@MODELS.register_module()
class MobileFormer(BaseModule):
    """Mobile-Former encoder: a map at stride 16 (and on the way 2, 4, 8) and six tokens.

    Takes images (N, 3, H, W) of any size from 32 pixels; a map at stride s has ceil(H/s) rows and
    ceil(W/s) columns.

    Args:
        arch (str | dict): A name of ``ARCHS`` or a dict of the same form.
        out_indices (Sequence[int]): The maps to return: 0-3 the stages 1-4, 4 the final 1x1
            convolution with BatchNorm. What none of them needs is not built. Defaults to (4,).
        with_tokens (bool): Return (maps, tokens) instead of maps. Defaults to False.
        frozen_stages (int): -1 freezes nothing, 0 stem and token embedding, k = 1-4 these and the
            stages up to k, 5 everything. Frozen parts get no gradient and keep their BatchNorm
            statistics. Defaults to -1.
        norm_eval (bool): Keep all BatchNorm layers in eval mode. Defaults to False.
        with_cp (bool): Recompute the blocks' activations in the backward pass instead of keeping
            them: less memory, more time, the same result. Defaults to False.
        dynamic_relu (str): 'plain' or 'spatial' (aware). They share all weights; a state dict
            records which form it was trained with, and loading it into the other is refused.
            Defaults to 'plain'.
        init_cfg (dict, optional): mmengine's initialisation, e.g. ``dict(type='Pretrained', ...)``.
    """

    def __init__(
        self,
        arch: str | dict,
        out_indices: Sequence[int] = (4,),
        with_tokens: bool = False,
        *,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        dynamic_relu: str = 'plain',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if isinstance(arch, str):
            if arch not in ARCHS:
                raise ValueError(f'arch must be one of {sorted(ARCHS)} or a dict, got {arch!r}')
            arch = ARCHS[arch]
        out_indices = tuple(out_indices)
        if not out_indices or not set(out_indices) <= set(range(5)):
            raise ValueError(f'out_indices must be a choice of 0-4, got {out_indices}')
        if frozen_stages not in range(-1, 6):
            raise ValueError(f'frozen_stages must be -1 to 5, got {frozen_stages!r}')
        if dynamic_relu not in DYNAMIC_RELU:
            raise ValueError(f'dynamic_relu must be one of {DYNAMIC_RELU}, got {dynamic_relu!r}')
        self.out_indices = out_indices
        self.with_tokens = with_tokens
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        self.dynamic_relu = dynamic_relu

        num_tokens, dim = arch['tokens']
        self.tokens = nn.Parameter(torch.randn(num_tokens, dim))
        width = arch['stem']
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU6(),
        )
        self.stages = nn.ModuleList()
        for i, rows in enumerate(arch['stages'][: max(out_indices) + 1]):
            stage = nn.ModuleList() if i else nn.Sequential()
            for j, (exp, out) in enumerate(rows):
                if i == 0:
                    block = BneckLite(width, exp, out)
                else:
                    block = MobileFormerBlock(
                        width, exp, out, dim, stride=1 if j else 2, dynamic_relu=dynamic_relu
                    )
                stage.append(block)
                width = out
            self.stages.append(stage)
        self.out = pointwise(width, arch['out']) if 4 in out_indices else None

        code = torch.tensor(DYNAMIC_RELU.index(dynamic_relu), dtype=torch.uint8)
        self.register_buffer('dynamic_relu_code', code)
        self.reset_parameters()
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...] | tuple[tuple[Tensor, ...], Tensor]:
        """Images (N, 3, H, W) to the chosen maps, with ``with_tokens`` also tokens (N, T, d)."""
        tokens = self.tokens.expand(len(x), -1, -1)     # (N, T, d)
        x = self._run(self.stages[0], self.stem(x))     # (N, C1, H/2, W/2)
        maps = [x]
        for stage in self.stages[1:]:
            for block in stage:
                x, tokens = self._run(block, x, tokens)
            maps.append(x)                              # (N, Ci, H/2^i, W/2^i)
        if self.out is not None:
            maps.append(self.out(x))                    # (N, C, H/16, W/16)
        maps = tuple(maps[i] for i in self.out_indices)
        return (maps, tokens) if self.with_tokens else maps

    def _run(self, block: nn.Module, *args: Tensor) -> Any:
        return recompute(block, *args) if self.with_cp and self.training else block(*args)

    def reset_parameters(self) -> None:
        """Mobile-Former's initialisation; BatchNorm and LayerNorm keep torch's 1 and 0."""
        nn.init.normal_(self.tokens)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # N(0, sqrt(2 / fan_out)), fan_out over all output channels, grouped or not.
                nn.init.kaiming_normal_(module.weight, mode='fan_out')
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def _frozen(self) -> list[nn.Module]:
        if self.frozen_stages == 5:
            return [self]
        return [self.stem, *self.stages[: self.frozen_stages]] if self.frozen_stages >= 0 else []

    def _freeze(self) -> None:
        for module in self._frozen():
            module.requires_grad_(False)
        if self.frozen_stages >= 0:
            self.tokens.requires_grad_(False)

    def train(self, mode: bool = True) -> 'MobileFormer':
        """Training mode but for what is frozen."""
        super().train(mode)
        for part in self._frozen():
            for module in part.modules():
                module.training = False
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.training = False
        return self

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        """Refuse weights that were trained with the other form of dynamic ReLU."""
        key = prefix + 'dynamic_relu_code'
        found = state_dict.get(key, self.dynamic_relu_code)
        if int(found) != int(self.dynamic_relu_code):
            raise ValueError(
                f'the weights were trained with dynamic_relu={DYNAMIC_RELU[int(found)]!r} and this '
                f'model has {self.dynamic_relu!r}: build it with the former. To mix the forms on '
                f'purpose, set {key!r} in the state dict.'
            )
        super()._load_from_state_dict(state_dict, prefix, *args)
