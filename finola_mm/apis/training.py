"""Train from a config: the starting point of a run, its options, and the run itself."""

import gc
import io
import logging
import re
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log
from torch import distributed

from ..datasets.validation import check_batch
from ..engine import (
    SIGNALS,
    CheckpointError,
    InterruptedRun,
    Runner,
    computes_bfloat16,
    find_checkpoint,
    find_resume_point,
    unwrap_model,
)
from ..errors import UserError, list_names
from .command_line import make_folder
from .cpu import optimize_for_cpu
from .progress_bar import progress_bar


def enable_compile(cfg: Config) -> None:
    """Compile the encoder and other parts of the model in the first step."""
    add_hook(cfg, type='finola_mm.CompileHook')


def enable_amp(cfg: Config) -> None:
    """Train in bfloat16 where the device supports it; otherwise in float16 on a GPU."""
    float16 = get_device() == 'cuda' and not computes_bfloat16('cuda')
    cfg.optim_wrapper.type = 'AmpOptimWrapper' if float16 else 'finola_mm.BFloat16OptimWrapper'
    if not float16:  # arguments of an AmpOptimWrapper
        for name in ('dtype', 'loss_scale', 'use_fsdp'):
            cfg.optim_wrapper.pop(name, None)


def enable_lr_scaling(cfg: Config) -> None:
    """Scale the learning rate by the total batch size over ``auto_scale_lr.base_batch_size``."""
    if 'auto_scale_lr' not in cfg:
        raise UserError(
            f'{cfg.filename} has no auto_scale_lr.base_batch_size, which --auto-scale-lr requires; '
            'set it or omit --auto-scale-lr'
        )
    if not cfg.auto_scale_lr.get('enable'):  # true in a config written by such a run
        # MMEngine's total batch size does not include gradient accumulation.
        cfg.auto_scale_lr.base_batch_size /= cfg.optim_wrapper.get('accumulative_counts', 1)
    cfg.auto_scale_lr.enable = True


def add_hook(cfg: Config, **hook: Any) -> None:
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), hook]


def check_settings(cfg: Config) -> None:
    """Reject settings that would end the run at its first validation or checkpoint."""
    make_folder(cfg.work_dir)
    out_dir = (cfg.get('default_hooks', {}).get('checkpoint') or {}).get('out_dir')
    if out_dir and '://' not in out_dir:
        make_folder(out_dir)
    interval = cfg.train_cfg.get('val_interval', 1)
    if cfg.get('val_cfg') is not None and not (isinstance(interval, int) and interval > 0):
        raise UserError(
            f'train_cfg.val_interval is {interval!r}; expected 1 or more. To train without '
            'validation, add --no-validate'
        )


def set_starting_point(
    cfg: Config, *, resume: str | None = None, pretrained: str | None = None
) -> None:
    """Resume from a checkpoint, or start a new run from the weights of ``pretrained`` or ``cfg``.

    Collective: rank 0 chooses the checkpoint for all ranks.

    resume: a checkpoint, a work directory, or 'auto' for ``cfg.work_dir``.
    pretrained: encoder weights, or 'none' for random weights.
    """
    request = resume or cfg.get('resume')
    point = on_rank_zero(partial(find_resume_point, request, cfg.get('load_from'), cfg.work_dir))
    cfg.resume = point is not None
    if point is None:
        if resume:
            print_log(f'no checkpoint in {cfg.work_dir}: starting a new run', 'current')
        elif Path(cfg.work_dir, 'last_checkpoint').exists():
            print_log(
                f'{cfg.work_dir} contains checkpoints of an earlier run, which this new run '
                'overwrites; use --resume to continue it, or another --work-dir',
                logger='current',
                level=logging.WARNING,
            )
        set_initial_weights(cfg, pretrained)
        return
    # MMEngine resumes the file in load_from. All ranks check that their machine has it.
    cfg.load_from = find_checkpoint(point.path)
    for module in (cfg.model, cfg.model.get('backbone') or ConfigDict()):
        readers, others = split_init_cfg(module)
        if readers:
            module.init_cfg = others  # the files that the readers name may no longer exist
    add_hook(cfg, type='finola_mm.StrictResumeHook', **point._asdict())


def on_rank_zero(compute: Callable[[], Any]) -> Any:
    """Call ``compute`` on rank 0; return its result, or raise its error, on all ranks."""
    outcome: list[Any] = [None]
    if is_main_process():
        try:
            outcome = [compute()]
        except Exception as error:
            outcome = [error]
    broadcast_object_list(outcome)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def set_initial_weights(cfg: Config, pretrained: str | None) -> None:
    """Start a new run from the encoder in ``pretrained``, or from the weights named in ``cfg``."""
    if pretrained:
        replace_encoder_weights(cfg, pretrained)
    elif cfg.get('load_from'):
        try:
            cfg.load_from = find_checkpoint(cfg.load_from)
        except CheckpointError as error:
            raise CheckpointError(
                f'{error}. The run starts from load_from: create this checkpoint first, or set '
                'another one with --cfg-options load_from=FILE'
            ) from None
        add_hook(cfg, type='finola_mm.StrictLoadHook', path=cfg.load_from)
    encoder = cfg.model.get('backbone') or ConfigDict()
    inits = split_init_cfg(cfg.model)[0] + split_init_cfg(encoder)[0]
    frozen = encoder.get('frozen_stages', -1)
    if frozen > -1 and not (inits or pretrained or cfg.get('load_from')):
        raise UserError(
            f'{cfg.filename} freezes the encoder (model.backbone.frozen_stages={frozen}) but has '
            'no weights for it: add --pretrained FILE, or --pretrained none for random weights'
        )
    for init in inits:
        if init.type == 'finola_mm.Pretrained':
            find_checkpoint(init.checkpoint)


def replace_encoder_weights(cfg: Config, pretrained: str) -> None:
    """Make the encoder's initializer read ``pretrained`` instead of the file named in ``cfg``."""
    if 'backbone' not in cfg.model:
        raise UserError(f'{cfg.filename}: the model has no backbone for --pretrained')
    others = [('model.init_cfg', init.checkpoint) for init in split_init_cfg(cfg.model)[0]]
    others += [('load_from', cfg.load_from)] if cfg.get('load_from') else []
    for name, file in others:
        raise UserError(
            f'--pretrained {pretrained} and {name}={file} both set the encoder weights; remove one '
            f'(--cfg-options {name}=None)'
        )
    replaced, kept = split_init_cfg(cfg.model.backbone)
    if pretrained != 'none':
        kept.append(dict(type='finola_mm.Pretrained', checkpoint=find_checkpoint(pretrained)))
    if replaced or kept:
        cfg.model.backbone.init_cfg = kept


def split_init_cfg(module: ConfigDict) -> tuple[list[ConfigDict], list[ConfigDict]]:
    """Split the ``init_cfg`` of a module into initializers that read a file, and others."""
    inits = module.get('init_cfg') or []
    inits = list(inits) if isinstance(inits, (list, tuple)) else [inits]
    readers = [i for i in inits if str(i.get('type')).rpartition('.')[2] == 'Pretrained']
    return readers, [init for init in inits if init not in readers]


def build_runner(cfg: Config) -> Runner:
    """Build a runner, whose log may contain file names that are not UTF-8."""
    runner = Runner.from_cfg(cfg)
    for handler in runner.logger.handlers:
        stream = getattr(handler, 'stream', None)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')
    optimize_for_cpu(runner.model)
    return runner


def train_from_cfg(cfg: Config) -> None:
    """Build a runner and train; on a signal, save a checkpoint and raise ``InterruptedRun``."""
    interrupted = False
    try:
        _train(cfg)
    except InterruptedRun:
        interrupted = True
        # Launchers terminate the other ranks when the first one exits; all exit with 75.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    destroy_process_group()  # not above, where the traceback refers to the runner
    if interrupted:
        raise InterruptedRun


def destroy_process_group() -> None:
    """Destroy the process group, if there is one, and end its threads.

    The threads of gloo end with the last reference to the group. DDP and hooks have references, in
    cycles. If a thread is alive when the interpreter exits, it may abort the process (SIGABRT), and
    torchrun then terminates the other ranks, which may still be saving.
    """
    if distributed.is_initialized():
        distributed.destroy_process_group()
        gc.collect()


def _train(cfg: Config) -> None:
    # TF32 for float32 products on a GPU: those of runs without --amp, and of the encoder's tokens
    torch.backends.cuda.matmul.allow_tf32 = get_device() == 'cuda'
    try:
        runner = build_runner(cfg)
        check_batch(runner)
        with progress_bar(runner):
            runner.train()
    except RuntimeError as error:  # of DDP, in the second step
        found = re.search('did not receive grad for rank .*: ([ 0-9]+)', str(error))
        if not found:
            raise
        parameters = unwrap_model(runner.model).named_parameters()
        trained = [name for name, parameter in parameters if parameter.requires_grad]
        unused = list_names(trained[int(index)] for index in found[1].split())
        raise UserError(
            f'no gradient for {unused}. With several ranks, add --cfg-options '
            'find_unused_parameters=True (in model_wrapper_cfg, if the config has one), or freeze '
            'these parameters'
        ) from error
