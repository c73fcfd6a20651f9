"""Test a checkpoint.

    python tools/test.py CONFIG CHECKPOINT [options]

The metrics are computed on the validation images. Pre-training: PSNR of the masked region, or PSNR,
SSIM and (if installed) LPIPS of whole images; classification: accuracy; detection: average
precision.
"""

import argparse
import json
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.runner import Runner
from torch import distributed

from finola_mm.apis import (
    add_config_and_checkpoint,
    add_run_options,
    command_line,
    load_config,
    optimize_for_cpu,
    use_own_coco_metric,
)
from finola_mm.datasets.validation import check_data
from finola_mm.engine import find_checkpoint, init_dist, load_weights
from finola_mm.errors import UserError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a checkpoint', allow_abbrev=False)
    add_config_and_checkpoint(parser)
    parser.add_argument('--out', help='write the metrics to this .json file')
    parser.add_argument('--show-dir', help='write pictures of the results to this folder')
    add_run_options(parser)
    return parser.parse_args()


def apply_cli_overrides(args: argparse.Namespace, cfg: Config) -> None:
    use_own_coco_metric(cfg)
    cfg.launcher = args.launcher
    cfg.load_from, cfg.resume = None, False  # these settings are for training
    if args.out and Path(args.out).suffix != '.json':
        raise UserError(f'--out {args.out}: expected a file name that ends in .json')
    if args.show_dir:
        enable_visualization(cfg.default_hooks.visualization, args.show_dir)


def enable_visualization(hook: ConfigDict, folder: str) -> None:
    """Make the config's visualization hook write pictures to ``folder``."""
    if hook.type == 'DetVisualizationHook':
        # mmdet prepends the work directory to a relative folder, once more for every batch.
        hook.update(draw=True, test_out_dir=str(Path(folder).resolve()))
    else:
        hook.update(enable=True, out_dir=folder)


@command_line
def main() -> None:
    args = parse_args()
    cfg = load_config(args.config, options=args.cfg_options, work_dir=args.work_dir)
    apply_cli_overrides(args, cfg)
    checkpoint = find_checkpoint(args.checkpoint)
    check_data(cfg, ['test'])
    init_dist(args.launcher, cfg)
    runner = Runner.from_cfg(cfg)
    optimize_for_cpu(runner.model)
    # Runner.load_checkpoint would ignore missing tensors and test random weights.
    load_weights(runner.model, checkpoint, allow_unused=False)
    metrics = runner.test()
    if args.out and is_main_process():
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        Path(args.out).write_text(json.dumps(metrics, indent=2) + '\n')
    if distributed.is_initialized():
        distributed.destroy_process_group()


if __name__ == '__main__':
    main()
