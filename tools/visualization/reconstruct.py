"""Draw what a pre-trained model makes of images: tools/visualization/reconstruct.py CONFIG
CHECKPOINT IMAGES... --out PICTURE.

One column for each image, rows original / visible block / prediction / composed; of a model that
restores whole images original / prediction. Normalisation, per-patch too, is undone. The images
go through the config's test pipeline: resized and cropped.
"""

import argparse
from pathlib import Path

from PIL import Image

from finola_mm.apis import CfgOptions, in_own_module, load_config
from finola_mm.apis.inference import load_batch, load_model
from finola_mm.datasets import find_images
from finola_mm.evaluation import draw_reconstructions


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Complete images from one visible block')
    parser.add_argument('config', help='config file of the pre-training')
    parser.add_argument('checkpoint', help='checkpoint file, or a work directory for its last one')
    parser.add_argument('images', nargs='+', help='image files and folders of images')
    parser.add_argument('--out', default='reconstruction.png', help='the picture to write')
    parser.add_argument(
        '--offset',
        nargs=2,
        type=int,
        metavar=('ROW', 'COL'),
        help='where the visible block lies, in patches from the top left; default: random',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the random blocks')
    parser.add_argument('--num', type=int, default=16, help='draw at most so many images')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, help='settings, key=value')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        cfg = load_config(args.config, options=args.cfg_options)
        if 'upsampler' not in cfg.model:
            raise ValueError(f'the model of {args.config} restores no images: it has no upsampler')
        files = find_images(args.images)
        if Path(args.out).suffix.lower() not in ('.png', '.jpg', '.jpeg'):
            raise ValueError(f'--out {args.out}: expected a name that ends in .png or .jpg')
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f'reconstruct: {error}') from None
    if len(files) > args.num:
        print(f'{len(files)} images; drawing the first {args.num} (--num)')
    try:
        model = load_model(cfg, args.checkpoint)
    except (FileNotFoundError, ValueError) as error:
        if in_own_module(error):
            raise
        raise SystemExit(f'reconstruct: {error}') from None
    try:
        batch = load_batch(cfg, files[: args.num], offset=args.offset, seed=args.seed)
        samples = model.val_step(batch)
    except ValueError as error:  # a file that is no image, an offset outside the map
        raise SystemExit(f'reconstruct: {error}') from None
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw_reconstructions(samples)).save(args.out)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
