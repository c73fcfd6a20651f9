"""Detect objects in images and draw them.

    python tools/visualization/detect.py CONFIG CHECKPOINT IMAGES... --out DIR

IMAGES are files and folders. For each image, the tool writes a picture to DIR/vis and a JSON file
with boxes (x1, y1, x2, y2 in pixels), scores, labels and class names to DIR/preds. Objects below
--score are not drawn; the JSON files contain all objects. Unreadable images are reported and
skipped. The tool uses mmdet's DetInferencer, so it works with any detector of mmdet.
"""

import argparse
from collections import Counter
from pathlib import Path

from finola_mm.apis import (
    add_cfg_options,
    add_config_and_checkpoint,
    command_line,
    int_range,
    load_config,
    make_folder,
)
from finola_mm.apis.detection import StrictDetInferencer
from finola_mm.datasets import find_images
from finola_mm.datasets.load_random_resized_crop import decode
from finola_mm.errors import UserError, list_names


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Detect objects in images and draw them')
    add_config_and_checkpoint(parser)
    parser.add_argument('images', nargs='+', metavar='IMAGES', help='image files and folders')
    parser.add_argument('--out', required=True, help='folder to create')
    parser.add_argument(
        '--score',
        type=float,
        help='minimum score of drawn objects; default: visualization.score_thr of the config, '
        'or 0.3',
    )
    parser.add_argument(
        '--batch-size', type=int_range(1), default=1, help='batch size; default: %(default)s'
    )
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    if args.score is not None and not 0 <= args.score <= 1:
        parser.error(f'--score must be from 0 to 1, got {args.score}')
    return args


def check_names(files: list[Path], out: str) -> None:
    """Check that no results are overwritten: mmdet names them after the image name only."""
    folder = Path(out)
    if folder.is_file() or (folder.exists() and any(folder.iterdir())):
        raise UserError(f'--out {out} must be a new or empty folder; choose another one')
    for names in ([f.name for f in files], [f.stem for f in files]):
        twice = [name for name, number in Counter(names).items() if number > 1]
        if twice:
            raise UserError(
                f'image names must be unique, since results are named after them; duplicates: '
                f'{list_names(twice)}. Run the tool on one folder at a time'
            )


def skip_unreadable(files: list[Path]) -> list[Path]:
    """Return the files that are complete images; report the others."""
    readable = []
    for file in files:
        try:
            decode(file.read_bytes(), str(file))
        except (OSError, ValueError) as error:
            print(f'skipped: {error}')
        else:
            readable.append(file)
    if not readable:
        raise UserError(f'none of the {len(files)} images can be read; see the lines above')
    return readable


@command_line
def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    cfg = load_config(args.config, options=args.cfg_options)
    files = find_images(args.images)
    check_names(files, args.out)
    make_folder(args.out)
    inferencer = StrictDetInferencer(cfg, args.checkpoint)
    files = skip_unreadable(files)
    score = args.score
    if score is None:
        score = cfg.get('default_hooks', {}).get('visualization', {}).get('score_thr', 0.3)
    inferencer(
        [str(file) for file in files],
        batch_size=args.batch_size,
        out_dir=args.out,
        pred_score_thr=score,
        no_save_pred=False,
    )
    print(f'wrote vis and preds of {len(files)} images to {args.out}')


if __name__ == '__main__':
    main()
