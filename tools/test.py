"""Test a checkpoint: tools/test.py CONFIG CHECKPOINT [options].

For a pre-training config: the PSNR of the masked region, or PSNR, SSIM and (where it is installed)
LPIPS of whole images, on the validation images; for a classifier its accuracy, for a detector its
average precision.
"""

import argparse
import json
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from finola_mm.apis import (
    CfgOptions,
    in_own_module,
    load_config,
    optimize_for_cpu,
    unknown_setting,
)
from finola_mm.datasets.validation import check_data
from finola_mm.engine import (
    EvaluationDataError,
    LaunchError,
    Processes,
    find_checkpoint,
    first_speaks,
    keep_freed_memory,
    load_weights,
    register_checkpoint_io,
)
from finola_mm.errors import BadDataError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a checkpoint', allow_abbrev=False)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file, or a work directory for its last one')
    parser.add_argument('--work-dir', help='where logs go')
    parser.add_argument('--out', help='write the metrics to this .json file')
    parser.add_argument('--show-dir', help='write pictures of the results into this folder')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        help='settings to change, key=value; nested: a.b=1; lists: a="[1,2]"',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def apply(args: argparse.Namespace, cfg: Config) -> None:
    """Write the command line's switches into the config."""
    cfg.launcher = args.launcher
    cfg.load_from, cfg.resume = None, False  # a config's own are for its training
    if args.out and Path(args.out).suffix != '.json':
        raise ValueError(f'--out {args.out}: expected a name that ends in .json')
    if args.show_dir:
        show(cfg.default_hooks.visualization, args.show_dir)


def show(hook: ConfigDict, folder: str) -> None:
    """Let the config's visualization hook write its pictures into ``folder``."""
    if hook.type == 'DetVisualizationHook':
        # mmdet's joins a relative folder to the work directory, again at every batch.
        hook.update(draw=True, test_out_dir=str(Path(folder).resolve()))
    else:
        hook.update(enable=True, out_dir=folder)


def main() -> None:
    with first_speaks():
        args = parse_args()
    keep_freed_memory()
    register_checkpoint_io()
    try:
        processes = Processes(args.launcher)
    except LaunchError as error:
        raise SystemExit(f'test: {error}') from None
    with processes.one_voice():
        test(args, processes)


def test(args: argparse.Namespace, processes: Processes) -> None:
    try:
        cfg = load_config(args.config, options=args.cfg_options, work_dir=args.work_dir)
        apply(args, cfg)
        checkpoint = find_checkpoint(args.checkpoint)
        check_data(cfg, ['test'])
        processes.join(cfg)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f'test: {error}') from None
    try:
        runner = Runner.from_cfg(cfg)
    except TypeError as error:
        if not (said := unknown_setting(error, args.cfg_options)):
            raise
        raise SystemExit(f'test: {said}') from None
    except ValueError as error:  # sizes that do not fit each other
        if in_own_module(error):
            raise
        raise SystemExit(f'test: {args.config}: {error}') from None
    optimize_for_cpu(runner.model)
    try:  # by itself the runner would test random weights where a checkpoint does not fit
        load_weights(runner.model, checkpoint, allow_unused=False)
    except ValueError as error:
        raise SystemExit(f'test: {error}') from None
    try:
        metrics = runner.test()
    except (BadDataError, EvaluationDataError) as error:
        raise SystemExit(f'test: {error}') from None
    if args.out and is_main_process():
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        Path(args.out).write_text(json.dumps(metrics, indent=2) + '\n')


if __name__ == '__main__':
    main()
