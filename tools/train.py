"""Train a model.

    python tools/train.py CONFIG [options]

Run it with --help for the list of options.
"""

import argparse

from mmengine.config import Config

from finola_mm.apis import add_run_options, command_line, load_config, use_own_coco_metric
from finola_mm.apis.config import require
from finola_mm.apis.training import (
    check_settings,
    enable_amp,
    enable_compile,
    enable_lr_scaling,
    set_starting_point,
    train_from_cfg,
)
from finola_mm.datasets.validation import check_data
from finola_mm.engine import init_dist


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a model', allow_abbrev=False)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='resume from this checkpoint file or work directory; without a path, from the newest '
        "valid checkpoint in the run's work directory, if there is one",
    )
    parser.add_argument(
        '--pretrained',
        metavar='FILE',
        help='initialize the encoder from this file, or from the last checkpoint of a work '
        'directory; "none": random weights, even for a frozen encoder (for a file named none, '
        'write ./none)',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision: bfloat16 if the device supports it, otherwise float16 with loss '
        'scaling on a GPU and float32 on a CPU',
    )
    parser.add_argument(
        '--compile',
        action='store_true',
        help='compile encoder, block-wise FINOLA, upsampler, decoder and head with torch.compile; '
        'the first step takes minutes',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate by the total batch size over the config's base batch size",
    )
    parser.add_argument(
        '--no-validate', action='store_true', help='do not validate during training'
    )
    add_run_options(parser)
    return parser.parse_args()


def apply_cli_overrides(args: argparse.Namespace, cfg: Config) -> None:
    cfg.launcher = args.launcher
    use_own_coco_metric(cfg)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.compile:
        enable_compile(cfg)
    if args.auto_scale_lr:
        enable_lr_scaling(cfg)
    if args.amp:
        enable_amp(cfg)


@command_line
def main() -> None:
    args = parse_args()
    cfg = load_config(args.config, options=args.cfg_options, work_dir=args.work_dir)
    require(cfg, 'model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
    apply_cli_overrides(args, cfg)
    check_data(cfg, ['train'] if args.no_validate else ['train', 'val'])
    check_settings(cfg)
    init_dist(args.launcher, cfg)
    # Which checkpoint --resume takes: finola_mm/engine/checkpoints/resume_point.py.
    set_starting_point(cfg, resume=args.resume, pretrained=args.pretrained)
    train_from_cfg(cfg)


if __name__ == '__main__':
    main()
