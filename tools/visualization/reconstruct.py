"""Let a pre-trained model complete images: tools/visualization/reconstruct.py CONFIG CHECKPOINT
IMAGES... --out PICTURE.

One column for each image, rows original / visible block / prediction / composed. Normalisation,
per-patch too, is undone. The images go through the config's test pipeline: resized and cropped.
"""

import argparse
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.dataset import Compose, default_collate
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from PIL import Image
from torch import nn

from finola_mm.datasets import SampleKey, seeded
from finola_mm.engine import (
    IMAGE_SUFFIXES,
    draw_reconstructions,
    find_checkpoint,
    load_config,
    load_weights,
)
from finola_mm.registry import MODELS


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
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='settings, key=value')
    return parser.parse_args()


def find_images(paths: list[str]) -> list[Path]:
    """Files as given, folders with all images below them, in order of name."""
    files = []
    for path in map(Path, paths):
        if path.is_dir():
            below = (p for p in sorted(path.rglob('*')) if p.suffix.lower() in IMAGE_SUFFIXES)
            files.extend(below)
        elif path.is_file():
            files.append(path)
        else:
            raise FileNotFoundError(f'no image or folder {path}')
    if not files:
        raise FileNotFoundError(f'no image ({", ".join(IMAGE_SUFFIXES)}) in {", ".join(paths)}')
    return files


def load_model(cfg: Config, checkpoint: str) -> nn.Module:
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    model = MODELS.build(cfg.model)
    load_weights(model, checkpoint, allow_unused=False)
    return model.to(get_device()).eval()


def load_batch(cfg: Config, files: list[Path], offset: list[int] | None, seed: int) -> dict:
    """The files as a batch of the config's test pipeline, with blocks at ``offset`` or drawn."""
    pipeline = Compose(cfg.test_pipeline)
    samples = []
    for i, file in enumerate(files):
        with seeded(SampleKey(seed, 0, i)):
            try:
                samples.append(pipeline(dict(img_path=str(file), sample_idx=i)))
            except Exception as error:  # each decoder has its own way to fail
                raise ValueError(f'{file} cannot be read as an image ({error!r})') from None
    if offset is not None:
        for sample in samples:
            sample['data_samples'].set_metainfo(dict(block_offset=tuple(offset)))
    return default_collate(samples)


def main() -> None:
    args = parse_args()
    try:
        cfg = load_config(args.config, options=args.cfg_options)
        files = find_images(args.images)
        checkpoint = find_checkpoint(args.checkpoint)
        if Path(args.out).suffix.lower() not in ('.png', '.jpg', '.jpeg'):
            raise ValueError(f'--out {args.out}: expected a name that ends in .png or .jpg')
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f'reconstruct: {error}') from None
    if len(files) > args.num:
        print(f'{len(files)} images; drawing the first {args.num} (--num)')
    try:
        model = load_model(cfg, checkpoint)
    except ValueError as error:
        raise SystemExit(f'reconstruct: {args.config}: {error}') from None
    try:
        batch = load_batch(cfg, files[: args.num], args.offset, args.seed)
        samples = model.val_step(batch)
    except ValueError as error:  # a file that is no image, an offset outside the map
        raise SystemExit(f'reconstruct: {error}') from None
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw_reconstructions(samples)).save(args.out)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
