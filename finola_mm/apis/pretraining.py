"""Pre-train an encoder by masked FINOLA-B from Python, with the runner of ``tools/train.py``."""

import difflib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import init_default_scope

from ..backbones.mobile_former import ARCHS
from ..datasets.validation import check_data
from ..engine import SIGNALS, InterruptedRun
from ..errors import UserError
from ..registry import MODELS
from .config import CONFIGS, load_config
from .encoder import Encoder, load_encoder
from .hub import find_weights
from .publishing import extract_encoder
from .training import (
    check_settings,
    enable_amp,
    enable_lr_scaling,
    set_starting_point,
    train_from_cfg,
)

BASES = {16: '_base_/masked_finola_any.py', 32: '_base_/masked_finola_any_stride32.py'}
TIMM = 'timm:'
NO_VALIDATION = dict(val_cfg=None, val_dataloader=None, val_evaluator=None)
VALIDATIONS = 10  # in a run


def pretrain(
    data: str | Path,
    backbone: str | dict[str, Any],
    *,
    out: str | Path,
    val: str | Path | None = None,
    epochs: int = 100,
    steps: int | None = None,
    batch_size: int = 128,
    image_size: int = 256,
    num_workers: int | None = None,
    amp: bool = False,
    pretrained: str | Path | None = None,
    resume: bool = False,
    options: dict[str, Any] | None = None,
) -> Encoder:
    """Pre-train an encoder on images without labels, on one device.

    This is the recipe of ``configs/selfsup/any``. The learning rate is scaled to the batch size;
    its schedule is warm-up and cosine over the length of the run.

    Args:
        data (str | Path): A folder; all images below it are used.
        backbone (str | dict): The encoder: a config of ``configs/selfsup/any`` such as
            'resnet50_s32'; 'timm:NAME', whose map of stride 32 is trained; a size of
            ``MobileFormer`` such as 'W720'; or the config of a backbone whose last map has stride
            16 or 32.
        out (str | Path): A folder for the log, the checkpoints and ``encoder.safetensors``.
        val (str | Path, optional): A folder of other images. If given, their masked PSNR is logged
            about ten times in a run, with pictures in ``out``; with class folders in ``data`` and
            ``val`` also kNN accuracy and RankMe. Defaults to None.
        epochs (int): Passes over the images. Defaults to 100; the paper's is 1600.
        steps (int, optional): Number of batches, instead of ``epochs``.
        batch_size (int): Defaults to 128.
        image_size (int): Side of the images, of which the encoder sees a quarter; a multiple of
            twice the stride. Defaults to 256.
        num_workers (int, optional): Processes that load images. Defaults to the number of CPUs, at
            most 8.
        amp (bool): Mixed precision, as by ``tools/train.py --amp``. Defaults to False.
        pretrained (str | Path, optional): Weights from which the encoder starts. Defaults to random
            weights.
        resume (bool): Continue the run in ``out``, if there is one. Defaults to False.
        options (dict, optional): Other settings of the config, as by ``--cfg-options``:
            ``{'model.upsampler.depth': 2}``. ``'optim_wrapper.optimizer.lr'`` is scaled from a
            batch size of 1024 to ``batch_size``, unless ``'auto_scale_lr.enable'`` is False.

    Returns:
        Encoder: The trained encoder, as ``load_encoder`` returns it.

    Raises:
        UserError: the data or a setting is wrong.
        InterruptedRun: Ctrl-C, SIGTERM or SIGUSR1 ended the run after a checkpoint was saved; call
            again with ``resume=True``. This is a ``SystemExit``, with status 75.
    """
    config, model = find_recipe(backbone)
    workers = min(8, os.cpu_count() or 1) if num_workers is None else num_workers
    settings = {
        **{f'model.backbone.{key}': value for key, value in model.items()},
        **loader_settings('train', data, batch_size, workers),
        'train_dataloader.dataset.dataset.pipeline.0.scale': image_size,
        **size_of_images('test_pipeline', image_size),
        **size_of_images('test_dataloader.dataset.pipeline', image_size),
        'missing_data_hint': 'Pass a folder of images as data.',
        **length_of_run(epochs, steps),
    }
    if val is None:
        settings |= NO_VALIDATION
    else:
        settings |= loader_settings('val', val, batch_size, workers)
        settings |= size_of_images('val_dataloader.dataset.pipeline', image_size)
    cfg = load_config(config, options=settings | (options or {}), work_dir=str(out))
    if cfg.auto_scale_lr.get('enable', True):
        enable_lr_scaling(cfg)
    if amp:
        enable_amp(cfg)
    check_data(cfg, ['train'] if val is None else ['train', 'val'])
    check_settings(cfg)
    start = find_weights(pretrained) if pretrained else None
    set_starting_point(cfg, resume='auto' if resume else None, pretrained=start)
    with restored_handlers():
        train_from_cfg(cfg)
    return load_encoder(extract_encoder(out, Path(out, 'encoder.safetensors'), force=True))


@contextmanager
def restored_handlers() -> Iterator[None]:
    """Restore signal handlers after an interrupted run, which ignores signals until the exit."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    except InterruptedRun:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        raise


def loader_settings(
    split: str, folder: str | Path, batch_size: int, num_workers: int
) -> dict[str, Any]:
    """Return the settings of a data loader for all images below a folder."""
    loader = f'{split}_dataloader'
    return {
        f'{loader}.batch_size': batch_size,
        f'{loader}.num_workers': num_workers,
        f'{loader}.persistent_workers': num_workers > 0,
        f'{loader}.dataset.dataset.data_root': str(folder),
        f'{loader}.dataset.dataset.data_prefix': '',
    }


def size_of_images(pipeline: str, size: int) -> dict[str, Any]:
    """Return the settings of a test pipeline for images of ``size`` x ``size`` pixels."""
    return {f'{pipeline}.1.scale': size, f'{pipeline}.2.crop_size': size}


def find_recipe(backbone: str | dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Return a config, and the settings of its backbone that replace those of the config."""
    if isinstance(backbone, str):
        named = CONFIGS / f'selfsup/any/{backbone}.py'
        if named.is_file():
            return named, {}
        if backbone.startswith(TIMM):
            return CONFIGS / BASES[32], timm_backbone(backbone.removeprefix(TIMM))
        if backbone.lower() not in ARCHS:
            names = sorted(path.stem for path in (CONFIGS / 'selfsup/any').glob('*.py'))
            raise UserError(
                f'backbone is {backbone!r}; expected one of {", ".join(names)}; one of '
                f"{', '.join(ARCHS)}; 'timm:NAME'; or the config of a backbone, dict(type=...)"
            )
        backbone = dict(type='finola_mm.MobileFormer', arch=backbone.lower())
    from ..selfsup.encoder_map import describe_map  # requires mmpretrain

    init_default_scope('mmpretrain')
    stride = describe_map(MODELS.build(dict(backbone))).stride
    if stride not in BASES:
        raise UserError(
            f'the last map of the backbone {backbone} has stride {stride}; choose out_indices so '
            f'that it has stride {" or ".join(map(str, BASES))}'
        )
    return CONFIGS / BASES[stride], backbone


def timm_backbone(name: str) -> dict[str, Any]:
    """Return the config of an encoder of timm up to its map of stride 32."""
    import timm

    if not timm.is_model(name):
        similar = difflib.get_close_matches(name, timm.list_models(), 5)
        raise UserError(
            f'timm has no model {name!r}; similar: {", ".join(similar) or "none"} '
            '(timm.list_models() lists all)'
        )
    hint = "Pass its config: backbone=dict(type='mmpretrain.TIMMBackbone', model_name=..., ...)"
    try:
        with torch.device('meta'):
            encoder: Any = timm.create_model(name, features_only=True)
        strides = encoder.feature_info.reduction()
    except (RuntimeError, ValueError, AttributeError) as error:
        message = f'timm cannot build {name!r} with features_only=True: {error}. {hint}'
        raise UserError(message) from error
    if 32 not in strides:
        raise UserError(
            f'{name!r} has maps of stride {", ".join(map(str, dict.fromkeys(strides)))}, none of '
            f'stride 32. {hint}'
        )
    return dict(
        type='mmpretrain.TIMMBackbone',
        model_name=name,
        features_only=True,
        out_indices=(strides.index(32),),
    )


def length_of_run(epochs: int, steps: int | None) -> dict[str, Any]:
    """Return the settings for a number of epochs, or of steps: warm-up, then a cosine."""
    by_epoch, length = steps is None, epochs if steps is None else steps
    # A longer share than the recipe's 10 of 1600 epochs, which would be few steps of a short run.
    # At least two, since MMEngine never ends a warm-up of one step, and an epoch can have one step.
    warmup = max(1 if by_epoch and length < 8 else 2, length // 40)
    unit: dict[str, Any] = dict(by_epoch=by_epoch)
    if by_epoch:
        unit['convert_to_iter_based'] = True
    warmup = min(warmup, length)
    schedule = [dict(type='LinearLR', start_factor=1e-4, begin=0, end=warmup, **unit)]
    if length > warmup:
        cosine = dict(type='CosineAnnealingLR', T_max=length - warmup, eta_min=0.0)
        schedule.append(cosine | dict(begin=warmup, end=length) | unit)
    interval = -(-length // VALIDATIONS)
    settings: dict[str, Any] = {
        'param_scheduler': schedule,
        'train_cfg': dict(
            type='finola_mm.ExactEpochLoop', max_epochs=epochs, val_interval=interval
        ),
        'default_hooks.knn.interval': interval,
        'default_hooks.knn.by_epoch': by_epoch,
    }
    if not by_epoch:
        loop = dict(type='IterBasedTrainLoop', max_iters=steps, val_interval=interval)
        settings |= {
            'train_cfg': dict(loop, _delete_=True),
            'train_dataloader.sampler': dict(_delete_=True, type='finola_mm.SeededInfiniteSampler'),
            'default_hooks.logger.log_metric_by_epoch': False,
            'default_hooks.logger.interval': min(100, max(1, length // 10)),
            'default_hooks.checkpoint.interval': max(length // 10, min(length, 100)),
            'default_hooks.checkpoint.by_epoch': False,
            'log_processor.by_epoch': False,
        }
    return settings
