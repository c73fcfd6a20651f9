"""Draw the reconstructions of a pre-trained model.

    python tools/visualization/reconstruct.py CONFIG CHECKPOINT IMAGES... --out reconstruction.png

IMAGES are files and folders. The picture has one column for each image, with the rows original,
visible block, prediction and the two combined; for a whole-image model, only original and
prediction. Normalization, including per-patch normalization, is undone. The config's test pipeline
resizes and crops the images. Unreadable images are reported and skipped. The config's metrics, such
as PSNR, are printed.
"""

import argparse

from mmengine.evaluator import Evaluator
from PIL import Image

from finola_mm.apis import (
    add_cfg_options,
    add_config_and_checkpoint,
    check_out,
    command_line,
    int_range,
    load_config,
)
from finola_mm.apis.inference import load_batch, load_model
from finola_mm.datasets import find_images
from finola_mm.errors import UserError, as_user_error
from finola_mm.evaluation import draw_reconstructions
from finola_mm.functional.visible_block import as_offsets


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Draw the reconstructions of a pre-trained model')
    add_config_and_checkpoint(parser)
    parser.add_argument('images', nargs='+', help='image files and folders of images')
    parser.add_argument(
        '--out',
        default='reconstruction.png',
        help='picture to write, .png or .jpg; default: %(default)s',
    )
    parser.add_argument(
        '--offset',
        nargs=2,
        type=int,
        metavar=('ROW', 'COL'),
        help='position of the visible block in patches, from the top left; default: random',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the random block positions')
    parser.add_argument('--num', type=int_range(1), default=16, help='maximum number of images')
    add_cfg_options(parser)
    return parser.parse_args(argv)


@command_line
def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    cfg = load_config(args.config, options=args.cfg_options)
    if 'upsampler' not in cfg.get('model', {}):
        raise UserError(
            f'the model of {args.config} has no upsampler, so it cannot reconstruct images; choose '
            'a pre-training config such as configs/selfsup/finola.py'
        )
    files = find_images(args.images)
    out = check_out(args.out, ('.png', '.jpg', '.jpeg'))
    if out.resolve() in [file.resolve() for file in files]:
        raise UserError(f'--out {out} is one of the images to read; choose another output file')
    if len(files) > args.num:
        print(f'{len(files)} images; drawing the first {args.num} (--num)')
    model = load_model(cfg, args.checkpoint)
    batch = load_batch(cfg, files[: args.num], offset=args.offset, seed=args.seed)
    if args.offset and hasattr(model, 'map_sizes'):
        grid, block = model.map_sizes(batch['inputs'])
        with as_user_error():
            as_offsets(args.offset, block, grid=grid)
    samples = model.val_step(batch)
    Image.fromarray(draw_reconstructions(samples)).save(out)
    print(f'wrote {out}')
    if cfg.get('test_evaluator'):
        evaluator = Evaluator(cfg.test_evaluator)
        evaluator.process(samples)
        for name, value in evaluator.evaluate(len(samples)).items():
            print(f'{name:24} {value:.3f}')


if __name__ == '__main__':
    main()
