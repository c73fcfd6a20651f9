"""Forms of the layers for exported graphs, and the three parts of a model that can be exported.

Runtimes copy a map wherever a graph splits, joins or transposes it, and some have no kernel for
``addcmul``, ``baddbmm`` or a cumulative sum. ``simplify_for_export`` therefore switches layers to
equal forms of common operators. Weights and results are unchanged, up to rounding. Only inference
without padding is supported.

Legend: N images, C channels, H x W positions, T tokens of width d, h heads, Q queries.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..backbones import MobileFormer
from ..layers import DynamicReLU, FormerToMobile, MobileFormerDecoder, MobileToFormer
from ..layers.mobile import DepthwiseConv2d
from ..layers.mobile_former_decoder import DecoderBlock, DecoderState, Padding, UpsampleLateral


def simplify_for_export(model: nn.Module, *, fixed_size: bool = False) -> nn.Module:
    """Switch the layers of ``model``, in eval mode, to their forms for export; return ``model``.

    fixed_size: make the positions of the decoder constants, for the size of the next image.
    """
    module: Any
    for module in list(model.modules()):
        if type(module) is DynamicReLU:
            module.__class__ = ExportDynamicReLU
        elif type(module) in BRIDGES:
            add_head_mask(module)
            module.__class__ = BRIDGES[type(module)]
        elif type(module) is DecoderBlock:
            module.__class__ = ExportDecoderBlock
        elif type(module) is MobileFormerDecoder:
            module.__class__ = FixedSizeDecoder if fixed_size else ExportDecoder
        elif type(module) is UpsampleLateral and fixed_size:
            module.__class__ = FixedSizeUpsampleLateral
        elif type(module) is nn.Sequential:
            fuse_norms(module)
    return model


def fuse_norms(module: nn.Sequential) -> None:
    """Fuse each BatchNorm into the convolution before it.

    Runtimes do it themselves, but not behind an expanding depthwise convolution, which they see as
    several.
    """
    names = list(module._modules)
    for first, second in zip(names, names[1:], strict=False):
        conv, norm = module.get_submodule(first), module.get_submodule(second)
        if type(conv) in (nn.Conv2d, DepthwiseConv2d) and type(norm) is nn.BatchNorm2d:
            module._modules[first] = fuse_conv_bn_eval(cast(nn.Conv2d, conv), norm)
            module._modules[second] = nn.Identity()


class ExportDynamicReLU(DynamicReLU):
    """Dynamic ReLU as its equation, y = max(a1 x, a2 x)."""

    def activate(self, x: Tensor, rise: Tensor, slope: Tensor) -> Tensor:
        return torch.maximum(x * (rise + slope), x * slope)


def add_head_mask(bridge: Any) -> None:
    """Register the mask of each head's channels, (h, 1, C); 1 = in the head."""
    channels = next(bridge.children()).out_features  # of the query or key
    mask = torch.eye(bridge.heads).repeat_interleave(channels // bridge.heads, dim=1)
    bridge.register_buffer('head_mask', mask[:, None], persistent=False)


def by_head(tokens: Tensor, head_mask: Tensor) -> Tensor:
    """Tokens (N, T, C) -> (N, hT, C), once for each head, with zeros in the others' channels."""
    return (tokens[:, None] * head_mask).flatten(1, 2)


class ExportMobileToFormer(MobileToFormer):
    """Mobile->Former with all heads in one product with the whole map."""

    head_mask: Tensor

    def attend(self, x: Tensor, tokens: Tensor, padding_mask: Tensor | None = None) -> Tensor:
        query = by_head(self.query(tokens) * self.scale, self.head_mask)  # (N, hT, C)
        kv = x.flatten(2)  # (N, C, HW)
        weights = torch.matmul(query, kv).softmax(dim=2)  # (N, hT, HW)
        reads = torch.matmul(weights, kv.transpose(1, 2))  # (N, hT, C)
        return (reads.unflatten(1, (self.heads, -1)) * self.head_mask).sum(1)  # (N, T, C)


class ExportFormerToMobile(FormerToMobile):
    """Former->Mobile with all heads in one product with the whole map."""

    head_mask: Tensor

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        key = by_head(self.key(tokens) * self.scale, self.head_mask)  # (N, hT, C)
        value = by_head(self.value(tokens), self.head_mask)  # (N, hT, C)
        logits = torch.matmul(key, x.flatten(2)).unflatten(1, (self.heads, -1))  # (N, h, T, HW)
        weights = logits.softmax(dim=2).flatten(1, 2)  # (N, hT, HW)
        update = torch.matmul(value.transpose(1, 2), weights)  # (N, C, HW)
        return x + update.unflatten(2, x.shape[2:])  # (N, C, H, W)


BRIDGES: dict[type, type] = {
    MobileToFormer: ExportMobileToFormer,
    FormerToMobile: ExportFormerToMobile,
}


class ExportDecoderBlock(DecoderBlock):
    """A block of the decoder with one projection for each input of attention, as in DETR."""

    def forward(
        self, state: DecoderState, pos_embed: Tensor, padding: Padding | None = None
    ) -> DecoderState:
        z, p, x = state
        pos = pos_embed[0] if self.map_attention else pos_embed  # (1, HW, D)
        rows = x.flatten(2).transpose(1, 2)  # (N, HW, D)
        placed = rows + pos
        z = self.to_former(z, [z + p, placed, rows])
        z = self.former(z, [z + p, z + p, z])
        if self.skip_map_update:
            return DecoderState(z, p, x)
        if self.map_attention:
            rows = self.mobile(rows, [placed, placed, rows])
        else:
            rows = self.mobile(x).flatten(2).transpose(1, 2)
        rows = self.to_mobile(rows, [rows + pos, z + p, z])
        x = rows.transpose(1, 2).unflatten(2, x.shape[2:])  # (N, D, H, W)
        return DecoderState(z, p + self.pos_update(z), x)


class ExportDecoder(MobileFormerDecoder):
    """Decoder that returns only the queries after its last block, (1, N, Q, D)."""

    def forward(self, feats: Sequence[Tensor], padding_mask: Tensor | None = None) -> Tensor:
        return self.refine(feats, padding_mask)[-1].queries[None]


class FixedSizeDecoder(ExportDecoder):
    """Decoder that embeds the positions of the first maps it sees, once."""

    def embed_positions(self, scale: int, x: Tensor, padding: Padding | None) -> Tensor:
        name = f'pos_embed{scale}'
        if not hasattr(self, name):
            embedding = super().embed_positions(scale, x, padding)
            self.register_buffer(name, embedding, persistent=False)
        return getattr(self, name)


class FixedSizeUpsampleLateral(UpsampleLateral):
    """The same with a slice, which ncnn has and which would fix a dynamic size."""

    def forward(
        self, x: Tensor, feat: Tensor, padding_mask: Tensor | None, finer_mask: Tensor | None
    ) -> Tensor:
        height, width = feat.shape[2:]
        x = F.interpolate(x, scale_factor=2, mode='bilinear')[:, :, :height, :width]
        return self.up(x) + self.lateral(feat)


class Normalize(nn.Module):
    """Normalize RGB images as the config does, which may use the channel order BGR."""

    def __init__(self, preprocessor: Any):
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer('mean', preprocessor.mean.clone())
        self.register_buffer('std', preprocessor.std.clone())
        # mmpretrain's, mmdet's and MMEngine's names: images are loaded as BGR, and converted or not
        names = ('to_rgb', 'bgr_to_rgb', '_channel_conversion')
        self.rgb = any(getattr(preprocessor, name, False) for name in names)

    def forward(self, images: Tensor) -> Tensor:
        images = images if self.rgb else images.flip(1)
        return (images - self.mean) / self.std


class Encoder(nn.Module):
    """Compute the encoder's maps, and its tokens if enabled, from raw images (N, 3, H, W)."""

    def __init__(self, model: Any, size: Sequence[int]):
        super().__init__()
        self.backbone: Any = model.backbone
        self.normalize = Normalize(model.data_preprocessor)
        self.with_tokens = getattr(self.backbone, 'with_tokens', False)
        if isinstance(self.backbone, MobileFormer):
            count, indices = self.backbone.num_stages, self.backbone.out_indices
            self.names = [f'stage{i + 1}' if i < count else 'out' for i in indices]
            self.names += ['tokens'] if self.with_tokens else []
        else:
            with torch.no_grad():
                maps = self.backbone(torch.zeros(1, 3, *size))
            self.names = [f'map{i}' for i in range(1, len(maps) + 1)]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        out = self.backbone(self.normalize(images))
        return (*out[0], out[1]) if self.with_tokens else tuple(out)


class Classifier(nn.Module):
    """Compute the probabilities of all classes, (N, classes), from raw images (N, 3, H, W)."""

    names = ['probabilities']

    def __init__(self, model: Any):
        super().__init__()
        self.model, self.normalize = model, Normalize(model.data_preprocessor)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.model(self.normalize(images), mode='tensor').softmax(1),)


class Detector(nn.Module):
    """Compute boxes, scores and labels of all queries, unsorted, from raw images (N, 3, H, W).

    with_labels: else return boxes and the probabilities of all classes, (N, Q, classes).
    """

    def __init__(self, model: Any, *, with_labels: bool = True):
        super().__init__()
        self.model, self.normalize = model, Normalize(model.data_preprocessor)
        self.with_labels = with_labels
        self.names = ['boxes', 'scores', 'labels'] if with_labels else ['boxes', 'probabilities']

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        height, width = images.shape[2:]
        logits, boxes = self.model(self.normalize(images), mode='tensor')  # (B, N, Q, ...)
        probabilities = logits[-1].softmax(2)[..., :-1]  # (N, Q, classes)
        x, y, w, h = boxes[-1].chunk(4, dim=2)  # (N, Q, 1) each
        corners = (
            ((x - w / 2) * width).clamp(0, width),
            ((y - h / 2) * height).clamp(0, height),
            ((x + w / 2) * width).clamp(0, width),
            ((y + h / 2) * height).clamp(0, height),
        )
        boxes = torch.cat(corners, 2)  # (N, Q, 4)
        return (boxes, *probabilities.max(2)) if self.with_labels else (boxes, probabilities)
