"""How much of the classes is in an encoder's features: kNN, and a linear classifier.

    python tools/analysis/knn.py configs/selfsup/masked_finola_b.py CHECKPOINT --random --linear

Nothing is trained but the classifier: the training images with their class folders are the bank,
the validation images are classified by it. All go whole through the validation's pipeline; the
feature is the global average of the encoder's last map. CHECKPOINT, one or more, is a training
checkpoint, a work directory for its last one, or an encoder that extract_backbone.py wrote.

Prints top-1 / top-5 in percent. --random adds the same encoder as it is before any training, the
floor of the numbers; --linear the optimum of a logistic regression, without augmentation (no
substitute for the paper's linear probing, configs/classification/lin.py). The bank's features are
kept in memory, 4 bytes a number, twice with --linear: all of ImageNet in W2880 would be 15 GB,
--images 128000 is 1.5.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.utils import track_iter_progress
from torch import Tensor, nn
from torch.utils.data import Dataset

from finola_mm.apis import CfgOptions, in_own_module, load_config, optimize_for_cpu
from finola_mm.datasets import LabelledData, evenly_spaced, labelled_data
from finola_mm.datasets.validation import check_data
from finola_mm.engine import find_checkpoint, load_weights, register_checkpoint_io
from finola_mm.evaluation import (
    encode_batches,
    gather_features,
    image_loader,
    knn_accuracy,
    linear_accuracy,
)
from finola_mm.registry import MODELS

KS = (10, 20, 100, 200)  # DINO's; it reports the best, 10 or 20


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='kNN and linear accuracy of an encoder')
    parser.add_argument('config', help='config file of the pre-training')
    parser.add_argument(
        'checkpoints',
        nargs='+',
        metavar='CHECKPOINT',
        help='checkpoint or encoder file, or a work directory; one or more',
    )
    parser.add_argument(
        '--k',
        nargs='+',
        type=int,
        metavar='K',
        help=f'neighbours; default: those of {KS} that the bank has',
    )
    parser.add_argument('--temperature', type=float, default=0.07, help="of the neighbours' votes")
    parser.add_argument(
        '--images',
        type=int,
        metavar='N',
        help='take so many training images, from all classes; default: all',
    )
    parser.add_argument('--linear', action='store_true', help='fit a linear classifier, too')
    parser.add_argument(
        '--penalty', type=float, default=1e-3, help='of its squared weights; default: 1e-3'
    )
    parser.add_argument('--random', action='store_true', help='add the encoder before training')
    parser.add_argument('--seed', type=int, default=0, help='seed of --random')
    parser.add_argument('--out', help='write the accuracies to this .json file')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, help='settings, key=value')
    return parser.parse_args()


def build_model(cfg: Config, seed: int) -> nn.Module:
    """The config's model as it is before training."""
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    torch.manual_seed(seed)
    if 'data_preprocessor' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return optimize_for_cpu(MODELS.build(cfg.model).to(get_device()))


def features(
    model: nn.Module, cfg: Config, dataset: Dataset, indices: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Features (n, C) and labels (n,) of some images of a data set, on the model's device."""
    print(f'encoding {len(indices)} images', file=sys.stderr)
    loader = image_loader(
        dataset,
        indices,
        batch_size=cfg.val_dataloader.batch_size,
        num_workers=cfg.val_dataloader.num_workers,
    )
    encoded = encode_batches(model.backbone, model.data_preprocessor, loader)
    batches = track_iter_progress((encoded, len(loader)), file=sys.stderr)
    found = gather_features(batches, len(indices))
    print(file=sys.stderr)
    return found


def judge(
    model: nn.Module, cfg: Config, data: LabelledData, args: argparse.Namespace
) -> dict[str, tuple[float, float]]:
    """Column of the table -> (top-1, top-5) in percent."""
    device = get_device()
    bank, bank_labels = features(model, cfg, data.bank, evenly_spaced(len(data.bank), args.images))
    queries, labels = features(model, cfg, data.queries, range(len(data.queries)))
    ks = args.k or [k for k in KS if k <= len(bank)] or [1]
    found = knn_accuracy(
        bank, bank_labels, queries.to(device), labels, ks=ks, temperature=args.temperature
    )
    columns = {f'k = {k}': accuracy for k, accuracy in found.items()}
    if args.linear:
        print('fitting a linear classifier', file=sys.stderr)
        parts = [part.to(device) for part in (bank, bank_labels, queries, labels)]
        columns['linear'] = linear_accuracy(*parts, penalty=args.penalty)
    return columns


def distinct(files: list[str]) -> list[str]:
    """The files' names; where one occurs twice, their paths."""
    names = [Path(file).name for file in files]
    return names if len({*names}) == len(names) else files


def print_table(rows: dict[str, dict[str, tuple[float, float]]]) -> None:
    columns = list(next(iter(rows.values())))
    print(f'| encoder | {" | ".join(columns)} |')
    print('|---' * (len(columns) + 1) + '|')
    for name, row in rows.items():
        values = ' | '.join(f'{top1:.2f} / {top5:.2f}' for top1, top5 in row.values())
        print(f'| {name} | {values} |')


def main() -> None:
    args = parse_args()
    register_checkpoint_io()
    rows = {}
    try:
        cfg = load_config(args.config, options=args.cfg_options)
        if args.out and Path(args.out).suffix != '.json':
            raise ValueError(f'--out {args.out}: expected a name that ends in .json')
        if args.images is not None and args.images < 1:
            raise ValueError(f'--images {args.images}: expected 1 or more')
        checkpoints = [*dict.fromkeys(map(find_checkpoint, args.checkpoints))]
        check_data(cfg, ['train', 'val'])
        model = build_model(cfg, args.seed)
        data = labelled_data(cfg)
        if args.random:
            rows['random'] = judge(model, cfg, data, args)
        for name, checkpoint in zip(distinct(checkpoints), checkpoints, strict=True):
            load_weights(model.backbone, checkpoint)
            rows[name] = judge(model, cfg, data, args)
    except (FileNotFoundError, ValueError) as error:
        if rows:
            print_table(rows)
        if in_own_module(error):
            raise
        raise SystemExit(f'knn: {error}') from None
    print_table(rows)
    if args.out:
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        Path(args.out).write_text(json.dumps(rows, indent=2) + '\n')


if __name__ == '__main__':
    main()
