"""Train a model: tools/train.py CONFIG [options]."""

import argparse
import signal
from functools import partial
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from finola_mm.apis import (
    CfgOptions,
    in_own_module,
    load_config,
    optimize_for_cpu,
    unknown_setting,
)
from finola_mm.datasets.validation import check_batch, check_data
from finola_mm.engine import (
    NO_SPACE,
    SIGNALS,
    CheckpointError,
    EvaluationDataError,
    InterruptedRun,
    LaunchError,
    NonFiniteLossError,
    Processes,
    check_sharded,
    computes_bfloat16,
    find_checkpoint,
    find_resume_point,
    first_speaks,
    keep_freed_memory,
    register_checkpoint_io,
)
from finola_mm.errors import UserError

# What ends a run by one line.
STOPS = (CheckpointError, EvaluationDataError, NonFiniteLossError, UserError)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a model', allow_abbrev=False)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from a checkpoint file or the last one of a work directory; '
        "without a path, of this run's own, if there is one",
    )
    parser.add_argument(
        '--pretrained',
        metavar='FILE',
        help='start from the encoder in this file, or in the last checkpoint of a work directory; '
        '"none" trains on a frozen encoder of random weights (a file of that name: ./none)',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision: bfloat16 where the device computes in it; else float16 with loss '
        'scaling on a GPU, float32 on a CPU',
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
        action=CfgOptions,
        help='settings to change, key=value; nested: a.b=1; lists: a="[1,2]"',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def apply(args: argparse.Namespace, cfg: Config, processes: Processes) -> None:
    """Write the command line's switches into the config."""
    cfg.launcher = args.launcher
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    # Searched for by each, it might be another one where the storage fails for a moment.
    find = partial(
        find_resume_point, args.resume or cfg.get('resume'), cfg.get('load_from'), cfg.work_dir
    )
    resumed = processes.shared('resumed', find)
    cfg.resume = resumed is not None
    if cfg.resume:
        cfg.load_from = find_checkpoint(resumed.path)  # on each machine
        for module in (cfg.model, encoder(cfg)):
            drop_weights(module)  # all come from the checkpoint, and their files may be gone
        add_hook(cfg, type='finola_mm.StrictResumeHook', **resumed._asdict())
    else:
        initialise(args, cfg)
    if args.compile:
        if 'upsampler' not in cfg.model:
            raise ValueError(f'--compile is for pre-training; {args.config} has no upsampler')
        add_hook(cfg, type='finola_mm.CompileHook')
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in cfg:
            raise ValueError(f'{args.config} sets no auto_scale_lr.base_batch_size to scale from')
        if not cfg.auto_scale_lr.get('enable'):  # else it is the config of such a run
            # MMEngine counts the images of a step on all processes, not the steps of an update.
            cfg.auto_scale_lr.base_batch_size /= cfg.optim_wrapper.get('accumulative_counts', 1)
        cfg.auto_scale_lr.enable = True
    if args.amp:
        float16 = get_device() == 'cuda' and not computes_bfloat16('cuda')
        cfg.optim_wrapper.type = 'AmpOptimWrapper' if float16 else 'finola_mm.BFloat16OptimWrapper'


def add_hook(cfg: Config, **hook: Any) -> None:
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), hook]


def initialise(args: argparse.Namespace, cfg: Config) -> None:
    """Begin with the encoder of --pretrained, or with the weights that the config names."""
    if args.pretrained:
        replace_encoder(args, cfg)
    elif cfg.get('load_from'):
        try:
            cfg.load_from = find_checkpoint(cfg.load_from)
        except CheckpointError as error:
            raise CheckpointError(
                f'{error}. The run starts from there (load_from): train what makes it first, or '
                'name another by --cfg-options load_from=FILE'
            ) from None
        add_hook(cfg, type='finola_mm.StrictLoadHook', path=cfg.load_from)
    elif encoder(cfg).get('frozen_stages', -1) > -1 and not (
        readers(cfg.model) or readers(encoder(cfg))
    ):
        raise ValueError(
            f'{args.config} freezes the encoder (model.backbone.frozen_stages='
            f'{encoder(cfg).frozen_stages}) and nothing gives it weights: add --pretrained '
            'FILE, or --pretrained none to keep the random ones on purpose'
        )
    for reader in readers(cfg.model) + readers(encoder(cfg)):
        if reader.type == 'finola_mm.Pretrained':
            find_checkpoint(reader.checkpoint)


def encoder(cfg: Config) -> ConfigDict:
    return cfg.model.get('backbone') or ConfigDict()


def initialisers(module: ConfigDict) -> list[ConfigDict]:
    """A module's ``init_cfg``, one or several, as a list."""
    found = module.get('init_cfg') or []
    return list(found) if isinstance(found, (list, tuple)) else [found]


def readers(module: ConfigDict) -> list[ConfigDict]:
    """Those of its initialisers that read a file of weights."""
    return [
        init
        for init in initialisers(module)
        if str(init.get('type')).rpartition('.')[2] == 'Pretrained'
    ]


def drop_weights(module: ConfigDict) -> None:
    """Let no initialiser of ``module`` read a file."""
    if readers(module):
        module.init_cfg = [init for init in initialisers(module) if init not in readers(module)]


def replace_encoder(args: argparse.Namespace, cfg: Config) -> None:
    """Let the encoder's last initialiser read --pretrained, not what the config names."""
    if 'backbone' not in cfg.model:
        raise ValueError(f'the model of {args.config} has no backbone for --pretrained')
    others = {f'model.init_cfg={init.checkpoint}': 'model.init_cfg' for init in readers(cfg.model)}
    if cfg.get('load_from'):
        others[f'load_from={cfg.load_from}'] = 'load_from'
    for other, name in others.items():
        raise ValueError(
            f'--pretrained {args.pretrained} and {other} both set the encoder; '
            f'leave one out (--cfg-options {name}=None)'
        )
    drop_weights(cfg.model.backbone)
    if args.pretrained != 'none':
        reader = dict(type='finola_mm.Pretrained', checkpoint=find_checkpoint(args.pretrained))
        cfg.model.backbone.init_cfg = [*initialisers(cfg.model.backbone), reader]


def main() -> None:
    with first_speaks():
        args = parse_args()
    keep_freed_memory()
    register_checkpoint_io()
    try:
        processes = Processes(args.launcher)
    except LaunchError as error:
        raise SystemExit(f'train: {error}') from None
    with processes.one_voice():
        train(args, processes)


def build(args: argparse.Namespace, cfg: Config) -> Runner:
    """The runner, with its model; sizes that do not fit each other end in one line."""
    try:
        return RUNNERS.build(cfg)
    except ValueError as error:
        if in_own_module(error):
            raise
        raise SystemExit(f'train: {args.config}: {error}') from None


def train(args: argparse.Namespace, processes: Processes) -> None:
    try:
        cfg = load_config(args.config, options=args.cfg_options, work_dir=args.work_dir)
        apply(args, cfg, processes)
        check_sharded(cfg)
        check_data(cfg, ['train'] if args.no_validate else ['train', 'val'])
        processes.join(cfg)
    except (OSError, ValueError) as error:
        raise SystemExit(f'train: {error}') from None
    try:
        runner = build(args, cfg)
        if args.resume == 'auto' and not cfg.resume:
            runner.logger.info(f'nothing to resume in {cfg.work_dir}: starting anew')
        optimize_for_cpu(runner.model)
        check_batch(runner)
        runner.train()
    except InterruptedRun:
        for number in SIGNALS:  # a launcher's, when another process leaves sooner
            signal.signal(number, signal.SIG_IGN)
        raise
    except STOPS as error:
        raise SystemExit(f'train: {error}') from None
    except TypeError as error:
        if not (said := unknown_setting(error, args.cfg_options)):
            raise
        raise SystemExit(f'train: {said}') from None
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise SystemExit(
            f'train: no space left to write {error.filename or "a file"}; free space and go on '
            'with --resume'
        ) from None


if __name__ == '__main__':
    main()
