"""Export a trained encoder or detector to ONNX and compare its outputs with PyTorch.

    python tools/deployment/export_onnx.py CONFIG CHECKPOINT OUT.onnx [--part encoder]
    python tools/deployment/export_onnx.py CONFIG CHECKPOINT OUT.onnx --size 800 1333 --batch 1

The input `images` is float32 (N, 3, H, W), RGB from 0 to 255; the graph includes the normalization.
All images of a batch must have the same size: there is no padding.

* Encoder (any config; checkpoint of a whole model or of an encoder): the outputs are its maps,
  named stage1, stage2, ... and out, and its tokens if the config enables them. Batch size and
  image size stay dynamic (from 32 pixels). The maps of an encoder other than MobileFormer are named
  map1, map2, ...; one of fixed size, such as a ViT, needs --size.
* Detector (configs with MobileFormerDETR): the outputs are `boxes` (N, Q, 4) as x1, y1, x2, y2 in
  pixels of the input, `scores` (N, Q) and `labels` (N, Q), one of each per query, unsorted. The
  metadata of the file contains the class names. Dynamic sizes must be multiples of 32; --size
  accepts any size.

The file is written only if onnxruntime reproduces PyTorch's outputs on two batches of random
images, which differ in size if the size is dynamic.
"""

import argparse
import importlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.export
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from finola_mm.apis import (
    add_cfg_options,
    add_config_and_checkpoint,
    check_out,
    command_line,
    int_range,
    load_config,
)
from finola_mm.apis.inference import load_metainfo
from finola_mm.backbones import MobileFormer
from finola_mm.engine import find_checkpoint, load_weights
from finola_mm.errors import UserError

STRIDE = 32  # of the decoder's coarsest map
SIZE = (192, 256)  # of the traced images if the size is dynamic
TOLERANCE = 1e-3  # maximum difference relative to the largest value of an output
DETECTOR = 'finola_mm.MobileFormerDETR'


class Encoder(nn.Module):
    """Compute the encoder's maps, and its tokens if enabled, from raw images."""

    def __init__(self, model: nn.Module, size: Sequence[int]):
        super().__init__()
        self.backbone, self.normalize = model.backbone, Normalize(model.data_preprocessor)
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


class Detector(nn.Module):
    """Compute boxes, scores and labels of all queries, unsorted, from raw images."""

    names = ['boxes', 'scores', 'labels']

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.normalize = model, Normalize(model.data_preprocessor)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        height, width = images.shape[2:]
        logits, boxes = self.model(self.normalize(images), mode='tensor')  # (B, N, Q, ...)
        scores, labels = logits[-1].softmax(2)[..., :-1].max(2)  # (N, Q) each
        x, y, w, h = boxes[-1].unbind(2)
        corners = (
            ((x - w / 2) * width).clamp(0, width),
            ((y - h / 2) * height).clamp(0, height),
            ((x + w / 2) * width).clamp(0, width),
            ((y + h / 2) * height).clamp(0, height),
        )
        return torch.stack(corners, 2), scores, labels


class Normalize(nn.Module):
    """Normalize RGB channels with the mean and standard deviation of the config."""

    def __init__(self, preprocessor: nn.Module):
        super().__init__()
        self.register_buffer('mean', preprocessor.mean.clone())
        self.register_buffer('std', preprocessor.std.clone())

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Export an encoder or a detector to ONNX')
    add_config_and_checkpoint(parser)
    parser.add_argument('out', help='file to create, .onnx')
    parser.add_argument(
        '--part',
        choices=['encoder', 'detector'],
        help='part to export; default: the detector if there is one',
    )
    parser.add_argument(
        '--size', type=int_range(32), nargs=2, metavar=('H', 'W'), help='fix the image size'
    )
    parser.add_argument('--batch', type=int_range(1), help='fix the batch size')
    add_cfg_options(parser)
    return parser.parse_args(argv)


def build(cfg: Config, args: argparse.Namespace) -> nn.Module:
    """Build the part to export, with its weights, in eval mode."""
    model_cfg = cfg.get('model', {})
    is_detector = model_cfg.get('type') == DETECTOR
    part = args.part or ('detector' if is_detector else 'encoder')
    if part == 'detector' and not is_detector:
        raise UserError(
            f'only {DETECTOR} can be exported as a detector; the model of {args.config} is '
            f'{model_cfg.get("type")}. Export its encoder with --part encoder'
        )
    if 'backbone' not in model_cfg:
        raise UserError(f'{args.config} defines no model with a backbone; choose a complete config')
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    model.eval()  # mmpretrain's backbones return None
    if not hasattr(model.data_preprocessor, 'mean'):
        raise UserError(
            f'the data_preprocessor of {args.config} has no mean and std, which the graph '
            'requires; set them in the config'
        )
    file = find_checkpoint(args.checkpoint)
    if part == 'detector':
        load_weights(model, file, allow_unused=False)
        module = Detector(model)
    else:  # a file with a whole model or an encoder
        load_weights(model.backbone, file)
        module = Encoder(model, args.size or SIZE)
    return module.eval().requires_grad_(False)


def dynamic_dims(module: nn.Module, args: argparse.Namespace) -> dict[int, Any]:
    """Return the dynamic axes of the images, with their ranges."""
    step = STRIDE if isinstance(module, Detector) else 1
    dims = {}
    if args.batch is None:
        dims[0] = torch.export.Dim('batch', min=1, max=1024)
    if args.size is None:
        for axis, name in ((2, 'height'), (3, 'width')):
            dims[axis] = step * torch.export.Dim(name, min=32 // step, max=8192 // step)
    return dims


def export(module: nn.Module, args: argparse.Namespace) -> 'torch.onnx.ONNXProgram':
    """Export the graph.

    Raises:
        UserError: torch cannot export the module, or not with these dynamic axes.
    """
    dims = dynamic_dims(module, args)
    images = 255 * torch.rand(args.batch or 2, 3, *(args.size or SIZE))
    remedy = 'Fix the dynamic axes: --batch N --size H W' if dims else 'It cannot be exported'
    try:
        program = torch.onnx.export(
            module,
            (images,),
            dynamo=True,
            dynamic_shapes=(dims,) if dims else None,
            input_names=['images'],
            output_names=module.names,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        cause = str(error.__cause__ or error).strip().splitlines()[0]
        raise UserError(f'torch cannot export this model: {cause}. {remedy}') from error
    shape = program.model.graph.inputs[0].shape
    names = ('batch', 'channels', 'height', 'width')
    fixed = [names[axis] for axis in dims if isinstance(shape[axis], int)]
    if fixed:  # the exporter does this without an error
        raise UserError(f'{" and ".join(fixed)} cannot be dynamic in this model. {remedy}')
    return program


def largest_difference(module: nn.Module, file: Path, images: Tensor) -> float:
    """Return onnxruntime's largest difference from torch, relative to the largest output."""
    import onnxruntime  # of an extra

    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    outputs = session.run(None, {'images': images.numpy()})
    return max(
        ((torch.from_numpy(a) - b).abs().max() / b.abs().max().clamp(min=1e-6)).item()
        for a, b in zip(outputs, module(images), strict=True)
    )


def check_parity(module: nn.Module, file: Path, args: argparse.Namespace) -> None:
    """Raise a UserError if onnxruntime does not reproduce PyTorch's outputs."""
    generator = torch.Generator().manual_seed(0)
    for size, batch in ((SIZE, 2), ((96, 160), 1)):
        shape = (args.batch or batch, 3, *(args.size or size))
        images = 255 * torch.rand(shape, generator=generator)
        difference = largest_difference(module, file, images)
        print(f'images {shape}: maximum relative difference from PyTorch {difference:.1e}')
        if not difference < TOLERANCE:
            raise UserError(
                f'onnxruntime differs from PyTorch by {difference:.1e}, more than {TOLERANCE}; no '
                'file was written. Try another version of onnxruntime'
            )


@command_line
def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    for name in ('onnx', 'onnxruntime', 'onnxscript'):
        importlib.import_module(name)  # not after the export, if one is missing
    if not hasattr(torch.export, 'Dim'):
        raise UserError(f'torch {torch.__version__} is installed; ONNX export requires 2.6')
    out = check_out(args.out, ('.onnx',), overwrite=False)
    for name in ('onnxscript', 'onnx_ir', 'torch.onnx'):
        logging.getLogger(name).setLevel(logging.ERROR)
    cfg = load_config(args.config, options=args.cfg_options)
    module = build(cfg, args)
    program = export(module, args)
    program.model.metadata_props['config'] = Path(args.config).stem
    if isinstance(module, Detector):
        classes = list(load_metainfo(cfg)['classes'])
        program.model.metadata_props['classes'] = json.dumps(classes)
    unchecked = out.with_name(f'.{out.name}.part')
    try:
        program.save(unchecked, external_data=False)
        check_parity(module, unchecked, args)
        unchecked.rename(out)
    finally:
        unchecked.unlink(missing_ok=True)
    shape = ' x '.join(map(str, program.model.graph.inputs[0].shape))
    print(f'{out}: images {shape} -> {", ".join(module.names)}')


if __name__ == '__main__':
    main()
