"""Detect objects in images of your own, and draw them.

    python tools/visualization/detect.py CONFIG CHECKPOINT PICTURES... --out DIR

PICTURES are files and folders, of which every image counts. DIR/vis gets a drawing of each,
DIR/preds a JSON file with its boxes (x1, y1, x2, y2 in pixels), scores, labels and the names of
their classes; only objects from --score on are drawn, the files have all. A picture that cannot be
read is named and left out. Any detector of mmdet works: this is its DetInferencer, with weights
read without running code in the file, and complaints where one is missing, and with the class
names of the config.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

from mmdet.apis import DetInferencer
from mmdet.models import BaseDetector
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope

from finola_mm.apis import CfgOptions, in_own_module, load_config, optimize_for_cpu
from finola_mm.datasets import find_images
from finola_mm.datasets.load_random_resized_crop import decode
from finola_mm.engine import find_checkpoint, load_weights


class CheckedInferencer(DetInferencer):
    """mmdet's, with our strict way to read weights; ``checkpoint`` is a file."""

    def __init__(self, cfg, checkpoint: str):
        self.checkpoint = checkpoint
        super().__init__(model=cfg, scope=cfg.get('default_scope', 'mmdet'))

    def _load_weights_to_model(self, model, checkpoint, cfg):
        load_weights(model, self.checkpoint, allow_unused=False)
        optimize_for_cpu(model)
        data = dict(cfg.test_dataloader.dataset, lazy_init=True)
        model.dataset_meta = dict(DATASETS.build(data).metainfo)
        # A palette of other classes would leave some of these without a colour.
        if len(model.dataset_meta.get('palette', ())) < len(model.dataset_meta['classes']):
            model.dataset_meta['palette'] = 'random'

    def pred2dict(self, data_sample, pred_out_dir=''):
        """The host's, which has labels alone, with the names of the classes."""
        found = super().pred2dict(data_sample, pred_out_dir)
        classes = self.model.dataset_meta['classes']
        found['names'] = [classes[label] for label in found.get('labels', ())]
        if pred_out_dir:
            file = Path(pred_out_dir, 'preds', f'{Path(data_sample.img_path).stem}.json')
            file.write_text(json.dumps(found))
        return found


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Detect objects in images and draw them')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file, or a work directory for its last one')
    parser.add_argument('images', nargs='+', metavar='PICTURES', help='image files and folders')
    parser.add_argument('--out', required=True, help='folder to make')
    parser.add_argument(
        '--score',
        type=float,
        help="least score to be drawn; default: the config's for its pictures, else 0.3",
    )
    parser.add_argument('--batch-size', type=int, default=1, help='default: %(default)s')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        help='settings to change, key=value; nested: a.b=1; lists: a="[1,2]"',
    )
    args = parser.parse_args(argv)
    if args.score is not None and not 0 <= args.score <= 1:
        parser.error(f'--score must lie between 0 and 1, got {args.score}')
    if args.batch_size < 1:
        parser.error(f'--batch-size must be at least 1, got {args.batch_size}')
    return args


def check_names(files: list[Path], out: str) -> None:
    """Refuse what would overwrite a drawing: the host names them by the image's name alone."""
    if Path(out).is_file():
        raise ValueError(f'--out {out} is a file; name a folder')
    if Path(out).exists() and any(Path(out).iterdir()):
        raise ValueError(f'--out {out} is not empty; delete it, or choose another folder')
    for kind, names in (('drawing', [f.name for f in files]), ('JSON', [f.stem for f in files])):
        twice = [name for name, number in Counter(names).items() if number > 1]
        if twice:
            raise ValueError(
                f'{len(twice)} names occur more than once, such as {twice[0]}, and each {kind} '
                'has the name of its image: detect in one folder at a time'
            )


def check_model(cfg: Config, path: str) -> None:
    """Refuse the config of something else, which the host's inferencer ends in a traceback."""
    name = cfg.get('model', {}).get('type')
    scope = cfg.get('default_scope', 'mmdet')
    kind = MODELS.get(name if '.' in name else f'{scope}.{name}') if name else None
    if kind is None or not issubclass(kind, BaseDetector):
        raise ValueError(f'expected the config of a detector; the model of {path} is {name}')


def readable(files: list[Path]) -> list[Path]:
    """Those that are whole images; the others are named."""
    found = []
    for file in files:
        try:
            decode(file.read_bytes(), str(file))
        except (OSError, ValueError) as error:
            print(f'left out: {error}')
        else:
            found.append(file)
    if not found:
        raise ValueError(f'none of the {len(files)} pictures can be read')
    return found


def detect(args: argparse.Namespace) -> None:
    cfg = load_config(args.config, options=args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    check_model(cfg, args.config)
    files = find_images(args.images)
    check_names(files, args.out)
    checkpoint = find_checkpoint(args.checkpoint)
    files = readable(files)  # last: it takes as long as the pictures are many
    score = args.score
    if score is None:
        score = cfg.get('default_hooks', {}).get('visualization', {}).get('score_thr', 0.3)
    inferencer = CheckedInferencer(cfg, checkpoint)
    inferencer(
        [str(file) for file in files],
        batch_size=args.batch_size,
        out_dir=args.out,
        pred_score_thr=score,
        no_save_pred=False,
    )
    print(f'{args.out}: vis and preds of {len(files)} images')


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        detect(args)
    except (FileNotFoundError, ValueError) as error:
        if in_own_module(error):
            raise
        raise SystemExit(f'detect: {error}') from None


if __name__ == '__main__':
    main()
