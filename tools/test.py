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

from finola_mm.apis import (
    add_config_and_checkpoint,
    add_run_options,
    check_out,
    command_line,
    load_config,
    make_folder,
    use_own_coco_metric,
)
from finola_mm.apis.config import require
from finola_mm.apis.training import build_runner, destroy_process_group
from finola_mm.datasets.validation import check_data
from finola_mm.engine import find_checkpoint, format_other_classes, init_dist, load_weights
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
    set_visualization(cfg.setdefault('default_hooks', ConfigDict()), args.show_dir)


def set_visualization(hooks: ConfigDict, folder: str | None) -> None:
    """Make the visualization hook write pictures to ``folder``, in the folders of their images."""
    hook = hooks.get('visualization') or {}
    name = str(hook.get('type')).rpartition('.')[2]
    if folder and name == 'DetVisualizationHook':
        # mmdet prepends the work directory to a relative folder.
        hook.update(draw=True, test_out_dir=str(Path(folder).resolve()))
    elif folder and hook:
        hook.update(enable=True, out_dir=folder)
    elif folder:
        raise UserError(
            f'--show-dir {folder}: default_hooks.visualization, which would draw, is {hook or None}'
        )
    to_files = hook.get('test_out_dir') or hook.get('out_dir')
    if to_files and name in ('DetVisualizationHook', 'VisualizationHook'):
        hooks.visualization = dict(type='finola_mm.FolderVisualizationHook', hook=hook)


@command_line
def main() -> None:
    args = parse_args()
    cfg = load_config(args.config, options=args.cfg_options, work_dir=args.work_dir)
    require(cfg, 'model', 'test_dataloader', 'test_cfg', 'test_evaluator')
    apply_cli_overrides(args, cfg)
    checkpoint = find_checkpoint(args.checkpoint)
    check_data(cfg, ['test'])
    make_folder(cfg.work_dir)
    if args.show_dir:
        make_folder(args.show_dir)
    if args.out:
        check_out(args.out, ('.json',))
    init_dist(args.launcher, cfg)
    runner = build_runner(cfg)
    # Runner.load_checkpoint would ignore missing tensors and test random weights.
    metadata = load_weights(runner.model, checkpoint, allow_unused=False)
    classes = getattr(runner.test_dataloader.dataset, 'metainfo', {}).get('classes')
    if other := format_other_classes(metadata, classes):
        raise UserError(f'{checkpoint} {other}')
    metrics = runner.test()
    if args.out and is_main_process():
        Path(args.out).write_text(json.dumps(metrics, indent=2) + '\n')
    del runner  # refers to the process group
    destroy_process_group()


if __name__ == '__main__':
    main()
