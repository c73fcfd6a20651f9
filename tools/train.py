"""Train a model: tools/train.py CONFIG [options]."""

import argparse

import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.device import get_device
from mmengine.runner import Runner

from finola_mm.datasets import BadDataError
from finola_mm.engine import (
    CheckpointError,
    NonFiniteLossError,
    check_batch,
    check_data,
    find_checkpoint,
    load_config,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a model')
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from a checkpoint file or the last one of a work directory; '
        "without a path, of this run's own",
    )
    parser.add_argument(
        '--pretrained',
        metavar='FILE',
        help='start from the encoder in this file, or in the last checkpoint of a work directory',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision: bfloat16 where the device has it, else float16 with loss scaling',
    )
    parser.add_argument(
        '--compile',
        action='store_true',
        help='torch.compile encoder and upsampler; the first step then takes minutes',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate by the total batch over the config's base batch",
    )
    parser.add_argument('--no-validate', action='store_true', help='no validation while training')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='settings to change, key=value; nested: a.b=1; lists: a="[1,2]"',
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none'
    )
    parser.add_argument('--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def apply(args: argparse.Namespace, cfg: Config) -> None:
    """Write the command line's switches into the config."""
    cfg.launcher = args.launcher
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else find_checkpoint(args.resume)
    if args.pretrained:
        if 'backbone' not in cfg.model:
            raise ValueError(f'the model of {args.config} has no backbone for --pretrained')
        initialise(cfg.model.backbone, find_checkpoint(args.pretrained))
    if cfg.get('load_from') and not cfg.get('resume'):
        # The runner would load what fits, and train on with the rest as it is.
        initialise(cfg.model, find_checkpoint(cfg.load_from))
        cfg.load_from = None
    if args.compile:
        cfg.custom_hooks = [*cfg.get('custom_hooks', []), dict(type='finola_mm.CompileHook')]
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in cfg:
            raise ValueError(f'{args.config} sets no auto_scale_lr.base_batch_size to scale from')
        cfg.auto_scale_lr.enable = True
    if args.amp:
        cuda = get_device() == 'cuda'
        bfloat16 = not cuda or torch.cuda.is_bf16_supported(including_emulation=False)
        cfg.optim_wrapper.type = 'finola_mm.BFloat16OptimWrapper' if bfloat16 else 'AmpOptimWrapper'


def initialise(module: ConfigDict, checkpoint: str) -> None:
    """Let the checkpoint be the last initialiser of a model, or of a part of it."""
    others = module.get('init_cfg') or []
    others = others if isinstance(others, (list, tuple)) else [others]
    module.init_cfg = [*others, dict(type='finola_mm.Pretrained', checkpoint=checkpoint)]


def main() -> None:
    args = parse_args()
    try:
        cfg = load_config(args.config, options=args.cfg_options, work_dir=args.work_dir)
        apply(args, cfg)
        check_data(cfg, ['train'] if args.no_validate else ['train', 'val'])
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f'train: {error}') from None
    runner = Runner.from_cfg(cfg)
    try:
        check_batch(runner)
    except ValueError as error:
        raise SystemExit(f'train: {error}') from None
    try:
        runner.train()
    except (BadDataError, CheckpointError, NonFiniteLossError) as error:
        raise SystemExit(f'train: {error}') from None


if __name__ == '__main__':
    main()
