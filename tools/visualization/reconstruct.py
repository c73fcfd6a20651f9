"""Draw the reconstructions of a pre-trained model.

    python tools/visualization/reconstruct.py CONFIG CHECKPOINT IMAGES... --out reconstruction.png

IMAGES are files and folders. The picture has one column for each image, with the rows original,
visible block, prediction and the two combined; for a whole-image model, only original and
prediction. Normalization, including per-patch normalization, is undone. The config's test pipeline
resizes and crops the images. Unreadable images are reported and skipped. The config's metrics, such
as PSNR, are printed. For a whole-image model, --baselines adds PCA and DCT with as many numbers as
the latent vector has (DCT of the whole image, at fixed positions).
"""

import argparse
import statistics

import torch
from mmengine.evaluator import Evaluator
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from PIL import Image
from torch import Tensor

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
from finola_mm.engine import find_checkpoint
from finola_mm.errors import UserError, as_user_error
from finola_mm.evaluation import draw_reconstructions, psnr
from finola_mm.evaluation.pca_dct import dct_fixed, load_fitted, pca
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
    parser.add_argument(
        '--baselines',
        metavar='FILE',
        help='PCA and DCT, written by tools/analysis/latent_baselines.py --save',
    )
    parser.add_argument('--num', type=int_range(1), default=16, help='maximum number of images')
    add_cfg_options(parser)
    return parser.parse_args(argv)


def baselines(
    file: str, model: BaseModel, batch: dict, samples: list[BaseDataElement]
) -> dict[str, Tensor]:
    """Return images (N, 3, H, W) of PCA and DCT with as many numbers as the model has."""
    if not hasattr(model, 'encode'):
        raise UserError(
            '--baselines requires a model of whole images, as those of configs/selfsup/finola.py; '
            f'got {type(model).__name__}'
        )
    with torch.no_grad():
        k = model.encode(model.data_preprocessor(batch)['inputs'][:1]).numel()
    images = torch.stack([sample.original.cpu() for sample in samples])
    fitted = load_fitted(find_checkpoint(file))
    transform = f'dct_{images.shape[-1]}'
    (count, _), size = fitted['components'].shape, fitted['mean'].shape
    if size != images.shape[1:] or count < k or transform not in fitted:
        raise UserError(
            f'{file} has {count} components of {tuple(size)} and {", ".join(fitted)}; the model '
            f'requires {k} of {tuple(images.shape[1:])} and {transform}. Write a file with '
            f'tools/analysis/latent_baselines.py --latent {k} --size {images.shape[-1]} --save'
        )
    return {
        f'PCA {k}': pca(fitted)(images, k),
        f'DCT {k}': dct_fixed(fitted, images.shape[-1])(images, k),
    }


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
    others = baselines(args.baselines, model, batch, samples) if args.baselines else {}
    Image.fromarray(draw_reconstructions(samples, others)).save(out)
    print(f'wrote {out}')
    if cfg.get('test_evaluator'):
        evaluator = Evaluator(cfg.test_evaluator)
        evaluator.process(samples)
        for name, value in evaluator.evaluate(len(samples)).items():
            print(f'{name:24} {value:.3f}')
    for name, images in others.items():
        pairs = zip(images, samples, strict=True)
        values = [psnr(image, sample.original.cpu()).item() for image, sample in pairs]
        print(f'{name + ", psnr":24} {statistics.mean(values):.3f}')


if __name__ == '__main__':
    main()
