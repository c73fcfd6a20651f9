"""Mobile-Former, the encoder of FINOLA.

Paper: "Image is First-order Norm+Linear Autoregressive", Appendix, Table 9; the architecture is
that of Mobile-Former (arXiv 2108.05895), here ending at stride 16. The table lists the first block
of stage 4 of W1440 as 288 -> 96, a misprint for 576 -> 176. Details that the text leaves open are
implied by the published sizes (tools/analysis/get_flops.py compares them with ours). No activation
follows the last BatchNorm: Table 9 lists none, and FINOLA continues the map with values of either
sign.

Legend: N images of H x W, C channels, T tokens of width d; mask: True = padding.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import CheckpointError, UserError, as_user_error
from ..functional import downsample_mask, zero_padding
from ..layers import BneckLite, MobileFormerBlock, checkpoint_module, pointwise
from ..registry import MODELS

# Table 9. tokens: number T, width d. stages: (expanded, output) channels of every block; stage 1
# is bneck-lite at the stem's stride 2, the first block of each later stage halves the map.
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
    # Not in the paper: a tenth of W720 for demonstrations and tests on a CPU. Shallow and wide: in
    # short runs of masked FINOLA on small images it reaches a lower loss than 8 narrow blocks.
    'small': dict(
        tokens=(6, 64),
        stem=32,
        stages=(
            ((64, 48),),
            ((144, 64),),
            ((192, 96),),
            ((288, 128),),
        ),
        out=256,
    ),
}


def scale_width(arch: dict[str, Any], factor: float) -> dict[str, Any]:
    """Multiply the widths of stem and stages by ``factor``; tokens and output stay unchanged."""
    stages = tuple(
        tuple((int(factor * hidden), int(factor * out)) for hidden, out in stage)
        for stage in arch['stages']
    )
    return {**arch, 'stem': int(factor * arch['stem']), 'stages': stages}


# The published 43.5 M and 67.6 M parameters match only if the output keeps 2880 channels.
ARCHS['w4320'] = scale_width(ARCHS['w2880'], 1.5)
ARCHS['w5760'] = scale_width(ARCHS['w2880'], 2)


def get_arch(arch: str | dict) -> dict[str, Any]:
    """Look up the table entry of a name; a dict of the same form is returned unchanged.

    Raises:
        UserError: the name is unknown, or the dict has invalid entries or does not have four
            stages.
    """
    if isinstance(arch, str):
        if arch not in ARCHS:
            raise UserError(f'arch must be one of {", ".join(ARCHS)} or a dict, got {arch!r}')
        return ARCHS[arch]
    expected = {'tokens', 'stem', 'stages', 'out'}
    if set(arch) != expected or len(arch['stages']) != 4:
        raise UserError(
            f'an arch must have exactly the entries {sorted(expected)} and four stages, '
            f'got {dict(arch)!r}'
        )
    return arch


# A state dict records the index of its form.
DYNAMIC_RELU = ('plain', 'spatial')


@MODELS.register_module()
class MobileFormer(BaseModule):
    """Mobile-Former encoder: maps at strides 2, 4, 8 and 16, and six global tokens.

    Takes images (N, 3, H, W) with sides of at least 32 pixels; the map at stride s has ceil(H/s)
    rows and ceil(W/s) columns.

    Args:
        arch (str | dict): A name of ``ARCHS``, or a dict of the same form.
        out_indices (Sequence[int]): The maps to return, in this order: 0-3 are stages 1-4, 4 is
            the final 1x1 convolution with BatchNorm. Stages after the last of them are not built.
            Defaults to (4,).
        with_tokens (bool): Return (maps, tokens) instead of maps. Defaults to False.
        frozen_stages (int): -1 freezes nothing, 0 the stem and the token embedding, 1-4 these and
            the stages up to that one, 5 everything. Frozen parts get no gradient, stay in eval
            mode (BatchNorm uses and keeps its running statistics), and store no activations for
            the backward pass. Defaults to -1.
        norm_eval (bool): Keep all BatchNorm layers in eval mode. Defaults to False.
        with_cp (bool): Recompute the activations of the blocks in the backward pass (activation
            checkpointing): this saves memory at the cost of time; the result is unchanged. Defaults
            to False.
        dynamic_relu (str): 'plain' or 'spatial' (aware). The two forms share all weights; a state
            dict records its form, and loading it into a model of the other form raises
            CheckpointError. Defaults to 'plain'.
        init_cfg (dict, optional): MMEngine initialization config, such as
            ``dict(type='finola_mm.Pretrained', checkpoint=...)``. Defaults to None.

    Raises:
        UserError: an argument is out of range, or a width of ``arch`` is not divisible as required.
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
        arch = get_arch(arch)
        if not out_indices or not set(out_indices) <= set(range(5)):
            raise UserError(f'out_indices must be some of 0, 1, 2, 3, 4, got {out_indices!r}')
        if frozen_stages not in range(-1, 6):
            raise UserError(f'frozen_stages must be from -1 to 5, got {frozen_stages!r}')
        if dynamic_relu not in DYNAMIC_RELU:
            raise UserError(f'dynamic_relu must be one of {DYNAMIC_RELU}, got {dynamic_relu!r}')
        self.out_indices = tuple(out_indices)
        self.with_tokens = with_tokens
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        self.dynamic_relu = dynamic_relu
        form = torch.tensor(DYNAMIC_RELU.index(dynamic_relu), dtype=torch.uint8)
        self.register_buffer('dynamic_relu_form', form)

        self.tokens = nn.Parameter(torch.empty(*arch['tokens']))  # (T, d)
        self.stem = nn.Sequential(
            nn.Conv2d(3, arch['stem'], 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(arch['stem']),
            nn.ReLU6(),
        )
        widths = [arch['stem'], *(stage[-1][1] for stage in arch['stages'])]
        with as_user_error():
            self.stages: Any = nn.ModuleList(  # nested ModuleLists cannot be annotated
                self._build_stage(index, channels, arch['stages'][index])
                for index, channels in enumerate(widths[: min(max(out_indices), 3) + 1])
            )
        self.out = pointwise(widths[-1], arch['out']) if 4 in out_indices else None
        self.reset_parameters()
        self._freeze()

    def _build_stage(
        self, index: int, in_channels: int, blocks: Sequence[tuple[int, int]]
    ) -> nn.ModuleList:
        """Build stage ``index`` + 1 on a map of ``in_channels``."""
        stage = nn.ModuleList()
        for hidden, out in blocks:
            if index == 0:
                block: nn.Module = BneckLite(in_channels, hidden, out)
            else:
                block = MobileFormerBlock(
                    in_channels,
                    hidden,
                    out,
                    self.tokens.shape[1],
                    stride=1 if stage else 2,
                    dynamic_relu=self.dynamic_relu,
                )
            stage.append(block)
            in_channels = out
        return stage

    def forward(
        self, x: Tensor, padding_mask: Tensor | None = None
    ) -> tuple[Tensor, ...] | tuple[tuple[Tensor, ...], Tensor]:
        """Images (N, 3, H, W) -> the maps of ``out_indices``; with tokens, (maps, (N, T, d)).

        padding_mask (N, H, W) marks pixels outside the images, which are ignored. In eval mode,
        with ``norm_eval``, or when frozen, the result for an image is the same in every batch. In
        training, BatchNorm's statistics include padded positions.
        """
        lite, *stages = self.stages
        tokens = self.tokens.expand(x.shape[0], -1, -1)  # (N, T, d)
        x = self.stem(zero_padding(x, padding_mask))  # (N, C0, H/2, W/2)
        padding_mask = downsample_mask(padding_mask)
        for block in lite:
            x = self._run(block, x, padding_mask)
        maps = [x]  # (N, C1, H/2, W/2)
        for stage in stages:
            for block in stage:
                x, tokens = self._run(block, x, tokens, padding_mask)
                padding_mask = downsample_mask(padding_mask, block.mobile.stride)
            maps.append(x)  # (N, Ci, H/2^i, W/2^i), i = 2, 3, 4
        if self.out is not None:
            maps.append(self.out(x))  # (N, C, H/16, W/16)
        chosen = tuple(maps[i] for i in self.out_indices)
        return (chosen, tokens) if self.with_tokens else chosen

    def _run(self, block: nn.Module, *args: Tensor | None) -> Any:
        return checkpoint_module(block, *args) if self.with_cp and self.training else block(*args)

    def reset_parameters(self) -> None:
        """Initialize as in Mobile-Former; BatchNorm and LayerNorm keep weight 1 and bias 0."""
        nn.init.normal_(self.tokens)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # N(0, 2 / fan_out), fan_out = 9 * out_channels for depthwise convolutions too.
                nn.init.kaiming_normal_(module.weight, mode='fan_out')
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def _frozen(self) -> list[nn.Module]:
        """Return the modules that ``frozen_stages`` covers; the token embedding is a parameter."""
        if self.frozen_stages == 5:
            return [self]
        return [self.stem, *self.stages[: self.frozen_stages]] if self.frozen_stages >= 0 else []

    def _freeze(self) -> None:
        for module in self._frozen():
            module.requires_grad_(False)
        self.tokens.requires_grad_(self.frozen_stages < 0)

    def train(self, mode: bool = True) -> 'MobileFormer':
        """Set training mode except for frozen parts; return self, like ``nn.Module.train``."""
        super().train(mode)
        rest = [module for part in self._frozen() for module in part.modules()]
        if self.norm_eval:
            rest += [module for module in self.modules() if isinstance(module, _BatchNorm)]
        for module in rest:
            module.training = False
        return self

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return the depth of a parameter for layer-wise learning-rate decay, and the total depth.

        Called by mmpretrain's ``LearningRateDecayOptimWrapperConstructor``. Depth 0 is the stem
        with the token embedding; the blocks and the final 1x1 convolution follow. Parameters that
        do not begin with ``prefix``, such as a head, are last.
        """
        parts = [
            f'{prefix}stages.{i}.{j}.'
            for i, stage in enumerate(self.stages)
            for j in range(len(stage))
        ]
        parts += [f'{prefix}out.'] if self.out is not None else []
        if not param_name.startswith(prefix):
            return len(parts) + 1, len(parts) + 2
        places = [place for place, part in enumerate(parts, 1) if param_name.startswith(part)]
        return (places[0] if places else 0), len(parts) + 2

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        """Reject weights of the other dynamic ReLU: they fit, but compute different values."""
        key = prefix + 'dynamic_relu_form'
        form = DYNAMIC_RELU[int(state_dict[key])] if key in state_dict else self.dynamic_relu
        if form != self.dynamic_relu:
            raise CheckpointError(
                f'the weights were trained with dynamic_relu={form!r}, but the model has '
                f'dynamic_relu={self.dynamic_relu!r}. Build the model with dynamic_relu={form!r}; '
                f'to use the other form on purpose, delete {key!r} from the state dict'
            )
        super()._load_from_state_dict(state_dict, prefix, *args)
