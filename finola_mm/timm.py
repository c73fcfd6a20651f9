"""Mobile-Former encoders in timm: ``import finola_mm.timm`` registers ``finola_mf_<arch>``.

    import timm, finola_mm.timm

    encoder = timm.create_model('finola_mf_w720', features_only=True)
    encoder.feature_info.reduction()  # [2, 4, 8, 16, 16]

The names are those of ``finola_mm.backbones.mobile_former.ARCHS``. ``pretrained=True`` loads the
weights named in ``PRETRAINED``, or a file: ``pretrained_cfg_overlay=dict(file=FILE)``. Requires
timm 1.0 or newer.
"""

from itertools import accumulate
from operator import mul
from typing import Any

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, register_model
from torch import Tensor, nn

from .backbones import MobileFormer
from .backbones.mobile_former import ARCHS, OPTIONS, get_arch
from .engine.checkpoints.published_weights import find_published
from .engine.checkpoints.state_dict_match import encoder_part
from .errors import UserError

__all__ = ['TimmMobileFormer']

# arch -> name of published weights, which pretrained=True loads
PRETRAINED = {'small': 'masked_finola_b_shapes'}


class TimmMobileFormer(MobileFormer):
    """``MobileFormer`` with timm's methods. Its maps are those of the stages and the final 1x1.

    Args:
        arch (str | dict): As in ``MobileFormer``.
        num_classes (int): Outputs of a linear classifier on the pooled last map. Defaults to 0: no
            classifier.
        global_pool (str): 'avg', or '' for the map. Defaults to 'avg'.
        drop_rate (float): Dropout before the classifier. Defaults to 0.
        in_chans (int): 3.
        **kwargs: Other arguments of ``MobileFormer``.
    """

    def __init__(
        self,
        arch: str | dict,
        *,
        num_classes: int = 0,
        global_pool: str = 'avg',
        drop_rate: float = 0.0,
        in_chans: int = 3,
        **kwargs: Any,
    ):
        if in_chans != 3 or global_pool not in ('avg', ''):
            raise UserError(
                f"expected in_chans=3 and global_pool 'avg' or '', got {in_chans!r} and "
                f'{global_pool!r}'
            )
        table = {**OPTIONS, **get_arch(arch)}
        stages = len(table['stages'])
        super().__init__(arch, tuple(range(stages + 1)), **kwargs)
        strides = list(accumulate(table['strides'][:stages], mul, initial=2))[1:]
        widths = [stage[-1][1] for stage in table['stages']]
        self.feature_info = [
            dict(num_chs=width, reduction=stride, module=f'stages.{i}')
            for i, (width, stride) in enumerate(zip(widths, strides, strict=True))
        ]
        self.num_features = self.head_hidden_size = table['out']
        last = dict(num_chs=self.num_features, reduction=strides[-1], module='out')
        self.feature_info.append(last)
        self.drop_rate = drop_rate
        self.reset_classifier(num_classes, global_pool)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        if global_pool is not None:
            self.global_pool = global_pool
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        return self.head

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.with_cp = enable

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> the last map (N, C, H/16, W/16)."""
        (*_, last) = super().forward(x)
        return last

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The last map -> scores (N, num_classes), or pooled features (N, C)."""
        if self.global_pool:
            x = x.mean((2, 3))
        x = nn.functional.dropout(x, self.drop_rate, self.training)
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Images (N, 3, H, W) -> the maps of ``indices``, or (last map, maps)."""
        if output_fmt != 'NCHW':
            raise UserError(f"output_fmt must be 'NCHW', got {output_fmt!r}")
        maps: Any = super().forward(x)  # without tokens
        chosen = [maps[i] for i in self._numbers(indices)]
        return chosen if intermediates_only else (maps[-1], chosen)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove the stages after the last of ``indices``; return them counted from 0."""
        taken = self._numbers(indices)
        last = max(taken)
        self.stages = self.stages[: last + 1]
        if last < self.num_stages:
            self.out = None
        self.out_indices = tuple(range(last + 1))
        if prune_head:
            self.reset_classifier(0, '')
        return taken

    def _numbers(self, indices: int | list[int] | None) -> list[int]:
        """Count timm's indices from 0: an int means the last maps, None all."""
        numbers = range(len(self.feature_info))
        if indices is None:
            return list(numbers)
        if isinstance(indices, int):
            return list(numbers[-indices:])
        return [numbers[i] for i in indices]


def _register(arch: str) -> None:
    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        if pretrained and arch in PRETRAINED and not kwargs.get('pretrained_cfg_overlay'):
            kwargs['pretrained_cfg_overlay'] = dict(file=str(find_published(PRETRAINED[arch])))
        return build_model_with_cfg(
            TimmMobileFormer,
            create.__name__,
            pretrained,
            arch=arch,
            pretrained_filter_fn=lambda weights, model: encoder_part(weights),
            feature_cfg=dict(
                out_indices=tuple(range(len(ARCHS[arch]['stages']) + 1)), feature_cls='getter'
            ),
            **kwargs,
        )

    create.__name__ = f'finola_mf_{arch}'
    register_model(create)


# timm finds the settings of a registered name in this table.
default_cfgs = {
    f'finola_mf_{arch}': dict(
        input_size=(3, 224, 224),
        min_input_size=(3, 64, 64) if len(ARCHS[arch]['stages']) == 5 else (3, 32, 32),
        num_classes=0,
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        interpolation='bicubic',
        crop_pct=0.875,
        first_conv='stem.0',
        classifier='head',
    )
    for arch in ARCHS
}
for name in ARCHS:
    _register(name)
