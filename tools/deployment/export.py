"""Export a trained encoder, classifier or detector, and compare its outputs with PyTorch.

    python tools/deployment/export.py CONFIG CHECKPOINT OUT.onnx [--part encoder]
    python tools/deployment/export.py CONFIG CHECKPOINT OUT.onnx --size 800 1333 --batch 1
    python tools/deployment/export.py CONFIG CHECKPOINT OUT.xml --format openvino
    python tools/deployment/export.py CONFIG CHECKPOINT OUT.onnx --int8 [--calibration FOLDER]

The input `images` is float32 (N, 3, H, W), RGB from 0 to 255; the graph includes the normalization.
All images of a batch must have the same size: there is no padding.

* Encoder (any config; checkpoint of a whole model or of an encoder): the outputs are its maps,
  named stage1, stage2, ... and out, and its tokens if the config enables them. Batch size and
  image size stay dynamic (from 32 pixels). The maps of an encoder other than MobileFormer are named
  map1, map2, ...; one of fixed size, such as a ViT, needs --size.
* Classifier (configs with mmpretrain's ImageClassifier): `probabilities` (N, classes).
* Detector (configs with MobileFormerDETR): the outputs are `boxes` (N, Q, 4) as x1, y1, x2, y2 in
  pixels of the input, `scores` (N, Q) and `labels` (N, Q), one of each per query, unsorted. The
  metadata of an ONNX file contains the class names. Dynamic sizes must be multiples of 32; --size
  accepts any size. In ncnn the outputs are `boxes` and the `probabilities` (N, Q, classes).

ncnn, torchscript and coreml need --size. A file is written only if its runtime reproduces
PyTorch's outputs on random images, of two sizes if the size is dynamic. Core ML predicts on macOS
only; elsewhere names and shapes are compared. docs/deployment.md describes the formats.
"""

import argparse
from pathlib import Path

from finola_mm.apis import (
    add_cfg_options,
    add_config_and_checkpoint,
    check_out,
    command_line,
    int_range,
    load_config,
)
from finola_mm.apis.export import (
    PARTS,
    build_part,
    check_packages,
    export,
    load_images,
    metadata,
)
from finola_mm.apis.export_formats import SUFFIXES
from finola_mm.errors import UserError


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Export an encoder, a classifier or a detector')
    add_config_and_checkpoint(parser)
    parser.add_argument('out', help=f'file to create, {", ".join(SUFFIXES.values())}')
    parser.add_argument('--format', choices=SUFFIXES, default='onnx', help='default: onnx')
    parser.add_argument(
        '--part', choices=PARTS, help='default: the detector if there is one, or else the encoder'
    )
    parser.add_argument(
        '--size', type=int_range(32), nargs=2, metavar=('H', 'W'), help='fix the image size'
    )
    parser.add_argument('--batch', type=int_range(1), help='fix the batch size')
    parser.add_argument('--int8', action='store_true', help='quantize the weights')
    parser.add_argument(
        '--calibration',
        metavar='IMAGES',
        help='folder of images from which --int8 takes the ranges of activations; needs --size. '
        'Without it, every run measures them',
    )
    parser.add_argument(
        '--calibration-images', type=int_range(1), default=64, help='how many of them; default: 64'
    )
    add_cfg_options(parser)
    return parser.parse_args(argv)


@command_line
def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if args.calibration and not (args.int8 and args.size):
        raise UserError('--calibration requires --int8 and --size H W')
    check_packages(args.format)
    out = check_out(args.out, (SUFFIXES[args.format],), overwrite=False)
    if args.format in ('openvino', 'ncnn'):
        check_out(out.with_suffix('.bin'), overwrite=False)
    cfg = load_config(args.config, options=args.cfg_options)
    module = build_part(
        cfg, args.checkpoint, args.part, size=args.size, with_labels=args.format != 'ncnn'
    )
    images = None
    if args.calibration:
        images = load_images(args.calibration, args.size, args.calibration_images)
        images = images.split(args.batch or 1)
    differences = export(
        module,
        out,
        args.format,
        size=args.size,
        batch=args.batch,
        int8=args.int8,
        calibration=images,
        metadata=metadata(cfg, module),
    )
    for shape, difference in differences.items():
        print(f'images {shape}: maximum relative difference from PyTorch {difference:.1e}')
    if not differences:
        print('Core ML predicts on macOS only; names and shapes of the outputs were compared')
    print(f'{out}: {module.__class__.__name__.lower()}, images -> {", ".join(module.names)}')
    if args.format == 'onnx' and args.size:
        shape = f'images:{args.batch or 1}x3x{args.size[0]}x{args.size[1]}'
        shapes = '' if args.batch else f' --minShapes={shape} --optShapes={shape}'
        engine = Path(out).with_suffix('.engine')
        print(f'TensorRT (untried): trtexec --onnx={out} --saveEngine={engine}{shapes}')


if __name__ == '__main__':
    main()
