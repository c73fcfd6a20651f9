"""Write a trained encoder or detector as an ONNX file, and compare it with PyTorch.

    python tools/deployment/export_onnx.py CONFIG CHECKPOINT OUT.onnx [--part encoder]
    python tools/deployment/export_onnx.py CONFIG CHECKPOINT OUT.onnx --size 800 1333 --batch 1

Input `images`: float32 (N, 3, H, W), RGB from 0 to 255; the normalisation is part of the graph. All
images of a batch have one size: there is no padding.

* The encoder, of any config, from the checkpoint of a whole model or of an encoder: its maps under
  the names stage1 to stage4 and out, and its tokens where the config wants them. Batch and size
  stay free (from 32 pixels on).
* The detector, of configs with MobileFormerDETR: `boxes` (N, Q, 4), x1, y1, x2, y2 in pixels of
  the image that went in, `scores` (N, Q) and `labels` (N, Q), one of each query, in no order; the
  class names are in the file's metadata. Free sizes are multiples of 32; --size takes any.

The file is written once onnxruntime gives what PyTorch does, for two batches of random images, of
two sizes where the size is free.
"""

import argparse
import json
import logging
from pathlib import Path

import onnxruntime
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch import Tensor, nn
from torch.export import Dim

from finola_mm.apis import CfgOptions, in_own_module, load_config
from finola_mm.engine import find_checkpoint, load_weights

STRIDE = 32  # of the coarsest map of the decoder
SIZE = (192, 256)  # of the images that the graph is traced with, where the size is free
TOLERANCE = 1e-3  # largest difference over the largest value of an output
DETECTOR = 'finola_mm.MobileFormerDETR'


class Encoder(nn.Module):
    """Raw images to the encoder's maps, and its tokens if it gives them."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.backbone, self.normalise = model.backbone, Normalise(model.data_preprocessor)
        self.names = [f'stage{i + 1}' if i < 4 else 'out' for i in self.backbone.out_indices]
        self.names += ['tokens'] if self.backbone.with_tokens else []

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        out = self.backbone(self.normalise(images))
        return (*out[0], out[1]) if self.backbone.with_tokens else out


class Detector(nn.Module):
    """Raw images to what every query found, as the head's ``predict`` has it before the sorting."""

    names = ['boxes', 'scores', 'labels']

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.normalise = model, Normalise(model.data_preprocessor)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        height, width = images.shape[2:]
        logits, boxes = self.model(self.normalise(images), mode='tensor')  # (B, N, Q, ...)
        scores, labels = logits[-1].softmax(2)[..., :-1].max(2)  # (N, Q) each
        x, y, w, h = boxes[-1].unbind(2)
        left, right = (x - w / 2) * width, (x + w / 2) * width
        top, bottom = (y - h / 2) * height, (y + h / 2) * height
        corners = (
            left.clamp(0, width),
            top.clamp(0, height),
            right.clamp(0, width),
            bottom.clamp(0, height),
        )
        return torch.stack(corners, 2), scores, labels


class Normalise(nn.Module):
    """The config's mean and deviation of the RGB channels."""

    def __init__(self, preprocessor: nn.Module):
        super().__init__()
        self.register_buffer('mean', preprocessor.mean.clone())
        self.register_buffer('std', preprocessor.std.clone())

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Write an encoder or detector as ONNX')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file, or a work directory for its last one')
    parser.add_argument('out', type=Path, help='file to make, .onnx')
    parser.add_argument(
        '--part',
        choices=['encoder', 'detector'],
        help='default: the detector where there is one to export',
    )
    parser.add_argument('--size', type=int, nargs=2, metavar=('H', 'W'), help='fix the image size')
    parser.add_argument('--batch', type=int, help='fix the number of images')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        help='settings to change, key=value; nested: a.b=1; lists: a="[1,2]"',
    )
    args = parser.parse_args(argv)
    if args.out.suffix != '.onnx':
        parser.error(f'expected a name that ends in .onnx, got {args.out}')
    if args.out.exists():
        parser.error(f'{args.out} exists: delete it, or choose another name')
    if args.size and min(args.size) < 32:
        parser.error(f'--size must be from 32 32 up, got {args.size}')
    if args.batch is not None and args.batch < 1:
        parser.error(f'--batch must be at least 1, got {args.batch}')
    return args


def build(cfg: Config, args: argparse.Namespace) -> nn.Module:
    """The part that is to be exported, with its weights, for evaluation."""
    is_detector = cfg.get('model', {}).get('type') == DETECTOR
    part = args.part or ('detector' if is_detector else 'encoder')
    if part == 'detector' and not is_detector:
        raise ValueError(
            f'only {DETECTOR} can be exported as a detector, {args.config} has '
            f'{cfg.get("model", {}).get("type")}; its encoder can: --part encoder'
        )
    if cfg.get('model', {}).get('backbone', {}).get('type') != 'finola_mm.MobileFormer':
        raise ValueError(f'the model of {args.config} has no finola_mm.MobileFormer as backbone')
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    if not hasattr(model.data_preprocessor, 'mean'):
        raise ValueError(
            f'the data_preprocessor of {args.config} has no mean and std: they become '
            'part of the graph'
        )
    file = find_checkpoint(args.checkpoint)
    if part == 'detector':
        load_weights(model, file, allow_unused=False)
        module = Detector(model)
    else:  # the file of a whole model, or of an encoder alone
        load_weights(model.backbone, file)
        module = Encoder(model)
    return module.eval().requires_grad_(False)


def free_dims(module: nn.Module, args: argparse.Namespace) -> dict[int, Dim]:
    """Which axes of the images stay free, and what they may be."""
    step = STRIDE if isinstance(module, Detector) else 1
    dims = {}
    if args.batch is None:
        dims[0] = Dim('batch', min=1, max=1024)
    if args.size is None:
        for axis, name in ((2, 'height'), (3, 'width')):
            dims[axis] = step * Dim(name, min=32 // step, max=8192 // step)
    return dims


def export(module: nn.Module, args: argparse.Namespace) -> torch.onnx.ONNXProgram:
    """The graph.

    Raises:
        ValueError: it cannot be had like this, with the option that helps.
    """
    dims = free_dims(module, args)
    images = 255 * torch.rand(args.batch or 2, 3, *(args.size or SIZE))
    remedy = 'Fix what is free: --batch N --size H W' if dims else 'This model cannot be exported'
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
        raise ValueError(f'torch cannot export this: {cause}. {remedy}') from None
    shape = program.model.graph.inputs[0].shape
    names = ('batch', 'channels', 'height', 'width')
    fixed = [names[axis] for axis in dims if isinstance(shape[axis], int)]
    if fixed:  # the exporter does not raise for that
        raise ValueError(f'the {" and ".join(fixed)} cannot be free in this model. {remedy}')
    return program


def largest_difference(module: nn.Module, file: Path, images: Tensor) -> float:
    """Of all outputs of onnxruntime from PyTorch's, over the largest value of that output."""
    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    found = session.run(None, {'images': images.numpy()})
    return max(
        ((torch.from_numpy(a) - b).abs().max() / b.abs().max().clamp(min=1e-6)).item()
        for a, b in zip(found, module(images), strict=True)
    )


def check_parity(module: nn.Module, file: Path, args: argparse.Namespace) -> None:
    """Raise ValueError where onnxruntime does not give what PyTorch gives."""
    generator = torch.Generator().manual_seed(0)
    for size, batch in ((SIZE, 2), ((96, 160), 1)):
        shape = (args.batch or batch, 3, *(args.size or size))
        images = 255 * torch.rand(shape, generator=generator)
        difference = largest_difference(module, file, images)
        print(f'images {shape}: largest relative difference from PyTorch {difference:.1e}')
        if not difference < TOLERANCE:
            raise ValueError(f'onnxruntime is off by {difference:.1e}, more than {TOLERANCE}')


def class_names(cfg: Config) -> list[str]:
    data = dict(cfg.test_dataloader.dataset, lazy_init=True)
    return list(DATASETS.build(data).metainfo['classes'])


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    for name in ('onnxscript', 'onnx_ir', 'torch.onnx'):
        logging.getLogger(name).setLevel(logging.ERROR)
    part = args.out.with_name(f'.{args.out.name}.part')
    try:
        cfg = load_config(args.config, options=args.cfg_options)
        module = build(cfg, args)
        program = export(module, args)
        program.model.metadata_props['config'] = Path(args.config).stem
        if isinstance(module, Detector):
            program.model.metadata_props['classes'] = json.dumps(class_names(cfg))
        args.out.parent.mkdir(parents=True, exist_ok=True)
        program.save(part, external_data=False)
        check_parity(module, part, args)
        part.rename(args.out)
    except (FileNotFoundError, ValueError) as error:
        part.unlink(missing_ok=True)
        if in_own_module(error):
            raise
        raise SystemExit(f'export_onnx: {error}') from None
    shape = ' x '.join(map(str, program.model.graph.inputs[0].shape))
    print(f'{args.out}: images {shape} -> {", ".join(module.names)}')


if __name__ == '__main__':
    main()
