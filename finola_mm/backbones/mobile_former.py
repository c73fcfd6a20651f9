"""Mobile-Former, the encoder of FINOLA, and its ImageNet family.

Paper: "Image is First-order Norm+Linear Autoregressive", Appendix, Table 9; the architecture is
that of Mobile-Former (arXiv 2108.05895), here ending at stride 16. The table lists the first block
of stage 4 of W1440 as 288 -> 96, a misprint for 576 -> 176. Details that the text leaves open are
implied by the published sizes (tools/analysis/get_flops.py compares them with ours). No activation
follows the last BatchNorm: Table 9 lists none, and FINOLA continues the map with values of either
sign.

The family of arXiv 2108.05895 has the same blocks, but ends at stride 32. Its tables and its two
differences, ReLU6 after the last BatchNorm and a last Mobile->Former, are those of the official
code (docs/decisions.md).

Legend: N images of H x W, C channels, T tokens of width d; mask: True = padding.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import CheckpointError, UserError, as_user_error
from ..functional import downsample_mask, zero_padding
from ..layers import (
    BneckLite,
    ChannelShuffle,
    MobileFormerBlock,
    MobileToFormer,
    checkpoint_module,
    pointwise,
    without_autocast,
)
from ..registry import MODELS

# Table 9. tokens: number T, width d. stages: (expanded, output) channels of every block; stage 1
# is bneck-lite at the stem's stride 2, the first block of each later stage halves the map. Entries
# that a table may add are listed in OPTIONS.
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

# strides: of the first block of each stage. groups: of the 1x1 convolutions, with channel shuffle.
# out_relu6: ReLU6 after the final 1x1. last_to_former: the tokens read the last map once more.
OPTIONS: dict[str, Any] = dict(
    strides=(1, 2, 2, 2, 2), groups=1, out_relu6=False, last_to_former=False
)

# The ImageNet family, named by its multiply-adds at 224 x 224.
ARCHS |= {
    '508m': dict(
        tokens=(6, 192),
        stem=24,
        stages=(
            ((48, 24),),
            ((144, 40), (120, 40)),
            ((240, 72), (216, 72)),
            ((432, 128), (512, 128), (768, 176), (1056, 176)),
            ((1056, 240), (1440, 240), (1440, 240)),
        ),
        out=1440,
    ),
    '294m': dict(
        tokens=(6, 192),
        stem=16,
        stages=(
            ((32, 16),),
            ((96, 24), (96, 24)),
            ((144, 48), (192, 48)),
            ((288, 96), (384, 96), (576, 128), (768, 128)),
            ((768, 192), (1152, 192), (1152, 192)),
        ),
        out=1152,
    ),
    '214m': dict(
        tokens=(6, 192),
        stem=12,
        stages=(
            ((24, 12),),
            ((72, 20), (60, 20)),
            ((120, 40), (160, 40)),
            ((240, 80), (320, 80), (480, 112), (672, 112)),
            ((672, 160), (960, 160), (960, 160)),
        ),
        out=960,
    ),
    '151m': dict(
        tokens=(6, 192),
        stem=12,
        stages=(
            ((24, 12),),
            ((72, 16), (48, 16)),
            ((96, 32), (96, 32)),
            ((192, 64), (256, 64), (384, 88), (528, 88)),
            ((528, 128), (768, 128), (768, 128)),
        ),
        out=768,
    ),
    '96m': dict(
        tokens=(4, 128),
        stem=12,
        stages=(
            ((24, 12),),
            ((72, 16),),
            ((96, 32), (96, 32)),
            ((192, 64), (256, 64), (384, 88)),
            ((528, 128), (768, 128)),
        ),
        out=768,
    ),
    '52m': dict(
        tokens=(3, 128),
        stem=8,
        strides=(2, 1, 2, 2, 2),
        stages=(
            ((24, 12),),
            ((36, 12),),
            ((72, 24), (72, 24)),
            ((144, 48), (192, 48), (288, 64)),
            ((384, 96), (576, 96)),
        ),
        out=576,
    ),
}
ARCHS['26m'] = {**ARCHS['52m'], 'groups': 4}
FAMILY = ('508m', '294m', '214m', '151m', '96m', '52m', '26m')
for member in FAMILY:
    ARCHS[member].update(out_relu6=True, last_to_former=True)


def get_arch(arch: str | dict) -> dict[str, Any]:
    """Look up the table entry of a name; a dict of the same form is returned unchanged.

    Raises:
        UserError: the name is unknown, or the dict has invalid entries, does not have four or five
            stages, or more than the one block of bneck-lite in stage 1.
    """
    if isinstance(arch, str):
        if arch not in ARCHS:
            raise UserError(f'arch must be one of {", ".join(ARCHS)} or a dict, got {arch!r}')
        return ARCHS[arch]
    expected = {'tokens', 'stem', 'stages', 'out'}
    if not expected <= set(arch) <= expected | set(OPTIONS):
        raise UserError(
            f'an arch must have the entries {sorted(expected)} and may have {sorted(OPTIONS)}, '
            f'got {dict(arch)!r}'
        )
    sizes = [len(stage) for stage in arch['stages']]
    strides = arch.get('strides', OPTIONS['strides'][: len(sizes)])
    if len(sizes) not in (4, 5) or sizes[0] != 1 or len(strides) != len(sizes):
        raise UserError(
            'an arch must have four or five stages, a stride for each, and one block in stage 1 '
            f'(bneck-lite), got stages of {sizes} blocks with strides {tuple(strides)}. Move other '
            'blocks of stage 1 to stage 2, and set strides'
        )
    return arch


# A state dict records the index of its form.
DYNAMIC_RELU = ('plain', 'spatial')


@MODELS.register_module()
class MobileFormer(BaseModule):
    """Mobile-Former encoder: maps at strides 2, 4, 8 and 16, and six global tokens.

    Takes images (N, 3, H, W) with sides of at least 32 pixels; the map at stride s has ceil(H/s)
    rows and ceil(W/s) columns. Architectures of five stages continue to stride 32 (52m and 26m have
    strides 4, 4, 8, 16 and 32) and require 64 pixels; for them, read 5 for 4 and 6 for 5 below.

    Args:
        arch (str | dict): A name of ``ARCHS``, or a dict of the same form.
        out_indices (Sequence[int]): The maps to return, in this order: 0-3 are stages 1-4, 4 is
            the final 1x1 convolution with BatchNorm. Stages after the last of them are not built.
            Defaults to (4,), which is the last stage if there are five.
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
        arch = {**OPTIONS, **get_arch(arch)}
        last = len(arch['stages'])  # index of the final 1x1, behind the stages
        if not out_indices or not set(out_indices) <= set(range(last + 1)):
            raise UserError(f'out_indices must be some of 0, ..., {last}, got {out_indices!r}')
        if frozen_stages not in range(-1, last + 2):
            raise UserError(f'frozen_stages must be from -1 to {last + 1}, got {frozen_stages!r}')
        if dynamic_relu not in DYNAMIC_RELU:
            raise UserError(f'dynamic_relu must be one of {DYNAMIC_RELU}, got {dynamic_relu!r}')
        self.num_stages = last
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
                self._build_stage(index, channels, arch)
                for index, channels in enumerate(widths[:last][: max(out_indices) + 1])
            )
        self.last_to_former = None
        if arch['last_to_former'] and with_tokens and len(self.stages) == last:
            self.last_to_former = MobileToFormer(widths[-1], self.tokens.shape[1])
        self.out = self._build_out(widths[-1], arch) if last in out_indices else None
        self.reset_parameters()
        self._freeze()

    def _build_stage(self, index: int, in_channels: int, arch: dict[str, Any]) -> nn.ModuleList:
        """Build stage ``index`` + 1 on a map of ``in_channels``."""
        stage = nn.ModuleList()
        for hidden, out in arch['stages'][index]:
            stride = 1 if stage else arch['strides'][index]
            options = dict(stride=stride, groups=arch['groups'])
            if index == 0:
                block: nn.Module = BneckLite(in_channels, hidden, out, **options)
            else:
                block = MobileFormerBlock(
                    in_channels,
                    hidden,
                    out,
                    self.tokens.shape[1],
                    dynamic_relu=self.dynamic_relu,
                    **options,
                )
            stage.append(block)
            in_channels = out
        return stage

    def _build_out(self, in_channels: int, arch: dict[str, Any]) -> nn.Sequential:
        """Build the final 1x1 convolution, whose parameters have the same names in every arch."""
        groups = arch['groups']
        conv, norm = pointwise(in_channels, arch['out'], groups=groups)
        shuffle = {'shuffle': ChannelShuffle(groups)} if groups > 1 else {}
        act = {'act': nn.ReLU6()} if arch['out_relu6'] else {}
        return nn.Sequential(OrderedDict({**shuffle, '0': conv, '1': norm, **act}))

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
            padding_mask = downsample_mask(padding_mask, block.stride)
        maps = [x]  # (N, C1, H/2, W/2)
        for stage in stages:
            for block in stage:
                x, tokens = self._run(block, x, tokens, padding_mask)
                padding_mask = downsample_mask(padding_mask, block.mobile.stride)
            maps.append(x)  # (N, Ci, H/2^i, W/2^i), i = 2, 3, 4
        if self.last_to_former is not None:
            with without_autocast(x):
                tokens = self.last_to_former(x, tokens, padding_mask)
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
        if self.frozen_stages > self.num_stages:
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
        last = {'last_to_former': self.last_to_former, 'out': self.out}
        parts += [f'{prefix}{name}.' for name, module in last.items() if module is not None]
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
