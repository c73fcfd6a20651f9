"""Evaluate frozen encoders with k nearest neighbours and a linear classifier.

    python tools/analysis/knn.py configs/selfsup/masked_finola_b.py CHECKPOINT --random --linear

Validation images are classified by their nearest neighbours in the feature bank, which contains
the training images. Labels are the class folders. All images are loaded whole with the validation
pipeline. The feature of an image is the global average of the encoder's last map. Each CHECKPOINT
is a training checkpoint, a work directory (its last checkpoint), or an encoder written by
tools/model_converters/extract_backbone.py.

The tool prints top-1 / top-5 accuracy in percent. --random adds the untrained encoder as a
baseline. --linear adds a logistic regression fitted to its optimum without augmentation; it does
not replace the paper's linear probing (configs/classification/lin.py). The bank is kept in memory
with 4 bytes per value, 8 with --linear: 15 GB for ImageNet and W2880, or 1.5 GB with --images
128000.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from torch import Tensor, nn
from torch.utils.data import Dataset

from finola_mm.apis import (
    add_cfg_options,
    check_out,
    command_line,
    int_range,
    load_config,
    optimize_for_cpu,
    progress,
)
from finola_mm.datasets import LabelledData, evenly_spaced, labelled_data
from finola_mm.datasets.validation import check_data
from finola_mm.engine import find_checkpoint, load_weights
from finola_mm.errors import UserError
from finola_mm.evaluation import (
    encode_batches,
    gather_features,
    image_loader,
    knn_accuracy,
    linear_accuracy,
)
from finola_mm.registry import MODELS

KS = (10, 20, 100, 200)  # as in DINO, which reports the best: 10 or 20


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Evaluate frozen encoders with kNN and a linear classifier'
    )
    parser.add_argument('config', help='pre-training config file')
    parser.add_argument(
        'checkpoints',
        nargs='+',
        metavar='CHECKPOINT',
        help='checkpoint file, encoder file or work directory; one or more',
    )
    parser.add_argument(
        '--k',
        nargs='+',
        type=int_range(1),
        metavar='K',
        help=f'numbers of neighbours; default: {KS}, up to the size of the bank',
    )
    parser.add_argument(
        '--temperature',
        type=float,
        default=0.07,
        help='temperature of the softmax that weights the votes; default: 0.07',
    )
    parser.add_argument(
        '--images',
        type=int_range(1),
        metavar='N',
        help='number of training images, evenly spaced over the classes; default: all',
    )
    parser.add_argument('--linear', action='store_true', help='also fit a linear classifier')
    parser.add_argument(
        '--penalty',
        type=float,
        default=1e-3,
        help='L2 penalty of the linear classifier; default: 1e-3',
    )
    parser.add_argument('--random', action='store_true', help='also evaluate an untrained encoder')
    parser.add_argument('--seed', type=int, default=0, help='seed of the untrained encoder')
    parser.add_argument('--out', help='write the accuracies to this .json file')
    add_cfg_options(parser)
    return parser.parse_args(argv)


def build_model(cfg: Config, seed: int) -> nn.Module:
    """Build the config's untrained model."""
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    torch.manual_seed(seed)
    return optimize_for_cpu(MODELS.build(cfg.model).to(get_device()))


def extract(
    model: nn.Module, cfg: Config, dataset: Dataset, indices: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Compute the features (n, C) and labels (n,) of the images, on the CPU."""
    loader = image_loader(
        dataset,
        indices,
        batch_size=cfg.val_dataloader.batch_size,
        num_workers=cfg.val_dataloader.num_workers,
    )
    encoded = encode_batches(model.backbone, model.data_preprocessor, loader)
    batches = progress(encoded, f'encoding {len(indices)} images', len(loader))
    return gather_features(batches, len(indices))


def evaluate(
    model: nn.Module, cfg: Config, data: LabelledData, args: argparse.Namespace
) -> dict[str, tuple[float, float]]:
    """Return (top-1, top-5) in percent for each column of the table."""
    device = get_device()
    bank, bank_labels = extract(model, cfg, data.bank, evenly_spaced(len(data.bank), args.images))
    queries, labels = extract(model, cfg, data.queries, range(len(data.queries)))
    ks = args.k or [k for k in KS if k <= len(bank)] or [1]
    accuracies = knn_accuracy(
        bank, bank_labels, queries.to(device), labels, ks=ks, temperature=args.temperature
    )
    columns = {f'k = {k}': accuracy for k, accuracy in accuracies.items()}
    if args.linear:
        parts = [part.to(device) for part in (bank, bank_labels, queries, labels)]
        columns['linear'] = linear_accuracy(*parts, penalty=args.penalty)
    return columns


def distinct_names(files: list[str]) -> list[str]:
    """Return the files' names, or their paths if two names are equal."""
    names = [Path(file).name for file in files]
    return names if len({*names}) == len(names) else files


def print_table(rows: dict[str, dict[str, tuple[float, float]]]) -> None:
    columns = list(next(iter(rows.values())))
    print(f'| encoder | {" | ".join(columns)} |')
    print('|---' * (len(columns) + 1) + '|')
    for name, row in rows.items():
        values = ' | '.join(f'{top1:.2f} / {top5:.2f}' for top1, top5 in row.values())
        print(f'| {name} | {values} |')


@command_line
def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    cfg = load_config(args.config, options=args.cfg_options)
    if args.out:
        check_out(args.out, ('.json',))
    checkpoints = [*dict.fromkeys(map(find_checkpoint, args.checkpoints))]
    check_data(cfg, ['train', 'val'])
    model = build_model(cfg, args.seed)
    data = labelled_data(cfg)
    known = len(evenly_spaced(len(data.bank), args.images))
    if args.k and max(args.k) > known:
        raise UserError(f'--k {max(args.k)}, but there are {known} known images')
    rows = {}
    try:
        if args.random:
            rows['random'] = evaluate(model, cfg, data, args)
        for name, checkpoint in zip(distinct_names(checkpoints), checkpoints, strict=True):
            load_weights(model.backbone, checkpoint)
            rows[name] = evaluate(model, cfg, data, args)
    finally:  # prints results even after an error
        if rows:
            print_table(rows)
    if args.out:
        Path(args.out).write_text(json.dumps(rows, indent=2) + '\n')


if __name__ == '__main__':
    main()
