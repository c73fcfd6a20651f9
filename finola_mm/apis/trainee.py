"""A model, its optimizer and batches of random images, for measurements without data.

The models have random weights. `tools/check/gpu.py`, the benchmarks and the null GPU's counts use
them.
"""

import logging
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from ..engine import CompileHook, merge_param_groups, set_memory_format
from ..registry import MODELS

# (height, width) of the images of a batch, in turns, where the shorter side is at most 800 pixels
SCENES = [(800, 1216), (768, 1152), (800, 1066), (640, 960)]
OPTIM_WRAPPERS = dict(
    bfloat16='finola_mm.BFloat16OptimWrapper', float16='AmpOptimWrapper', float32='OptimWrapper'
)
# The MAE that a width of masked FINOLA-B is compared with: name, arch and width in mmpretrain
MAE_PEERS = {
    'W2880': ('ViT-B', 'deit-base', 768),
    'W1440': ('ViT-S', 'deit-small', 384),
    'W720': ('ViT-Ti', 'deit-tiny', 192),
}


class Trainee:
    """A model with random weights (seed 0) on the device, and its optimizer.

    Args:
        cfg (Config): A config of pre-training, classification or detection.
        batch_size (int, optional): Images of a batch. By default that of the config.
        precision (str): 'bfloat16', 'float16' or 'float32'. Defaults to 'bfloat16'.
    """

    def __init__(
        self, cfg: Config, batch_size: int | None = None, precision: str = 'bfloat16'
    ) -> None:
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(0)
        self.cfg = cfg
        self.batch_size = batch_size or cfg.train_dataloader.batch_size
        init_default_scope(cfg.default_scope)
        remove_checkpoints(cfg.model)
        model: BaseModel = set_memory_format(MODELS.build(cfg.model), cfg)
        self.model = model.to(get_device()).train()
        self.optim_wrapper: OptimWrapper = build_optim_wrapper(
            self.model, cfg.optim_wrapper | dict(type=OPTIM_WRAPPERS[precision])
        )
        merge_param_groups(self.optim_wrapper.optimizer)
        self.compile_hook: CompileHook | None = None

    def compile(self, **kwargs: Any) -> None:
        """Compile the model as ``tools/train.py --compile`` does.

        kwargs: arguments of ``CompileHook``
        """
        self.compile_hook = CompileHook(**kwargs)
        runner = SimpleNamespace(model=self.model, cfg=self.cfg, logger=logging.getLogger())
        self.compile_hook.before_train(runner)

    def batch(self, seed: int = 0) -> dict[str, Any]:
        return make_batch(self.cfg, self.batch_size, seed)

    def train_step(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Train for one step; return the losses."""
        if self.compile_hook:
            self.compile_hook.before_train_iter(None, 0)
        self.model.train()
        return self.model.train_step(batch, self.optim_wrapper)

    def predict(self, batch: dict[str, Any]) -> None:
        self.model.eval()
        with torch.no_grad():
            self.model.val_step(batch)


def remove_checkpoints(cfg: ConfigDict) -> None:
    """Remove initializers that read a file."""
    if 'checkpoint' in (cfg.get('init_cfg') or {}):
        cfg.init_cfg = None
    for value in cfg.values():
        if isinstance(value, ConfigDict):
            remove_checkpoints(value)


def mae_model(arch: str, embed_dims: int, size: int = 256) -> dict[str, Any]:
    """Return the config of mmpretrain's MAE for images of ``size``, with its usual decoder."""
    return dict(
        type='MAE',
        backbone=dict(type='MAEViT', arch=arch, img_size=size, patch_size=16, mask_ratio=0.75),
        neck=dict(
            type='MAEPretrainDecoder',
            num_patches=(size // 16) ** 2,
            patch_size=16,
            in_chans=3,
            embed_dim=embed_dims,
            decoder_embed_dim=512,
            decoder_depth=8,
            decoder_num_heads=16,
            mlp_ratio=4.0,
        ),
        head=dict(
            type='MAEPretrainHead',
            norm_pix=True,
            patch_size=16,
            loss=dict(type='PixelReconstructionLoss', criterion='L2'),
        ),
    )


def make_batch(cfg: Config, batch_size: int, seed: int = 0) -> dict[str, Any]:
    """Return a batch of random images as the data loader of ``cfg`` gives it.

    The labels, objects and places of the visible block do not depend on the seed.
    """
    generator = torch.Generator().manual_seed(seed)
    if cfg.default_scope == 'mmdet':
        return detection_batch(cfg, batch_size, generator)
    from mmpretrain.structures import DataSample

    samples = [DataSample() for _ in range(batch_size)]
    if cfg.model.type == 'MoCo':
        views = [random_images(generator, batch_size, 3, 224, 224) for _ in range(2)]
        return dict(inputs=views, data_samples=samples)
    if cfg.model.type == 'ImageClassifier':
        for i, sample in enumerate(samples):
            sample.set_gt_label(i % cfg.model.head.num_classes)
        return dict(inputs=random_images(generator, batch_size, 3, 224, 224), data_samples=samples)
    size = 256
    offsets = size // 2 // 16 + 1  # the visible block is at one of 0 to 8 patches
    for i, sample in enumerate(samples):
        # The first block borders on no edge; the next ones are on edges and elsewhere.
        block_offset = ((3 + 5 * i) % offsets, (5 + 7 * i) % offsets)
        sample.set_metainfo(dict(block_offset=block_offset, sample_idx=i))
    return dict(inputs=random_images(generator, batch_size, 3, size, size), data_samples=samples)


def detection_batch(cfg: Config, batch_size: int, generator: torch.Generator) -> dict[str, Any]:
    """Return a batch of images of several sizes with 7 and more objects."""
    from mmdet.structures import DetDataSample

    shorter_side = min(next(t.scale for t in cfg.test_pipeline if t.type.endswith('Resize')))
    inputs, samples = [], []
    for i in range(batch_size):
        height, width = (side * shorter_side // 800 for side in SCENES[i % len(SCENES)])
        corners = 8 * torch.arange(7 + i)[:, None].expand(-1, 2).float()
        sample = DetDataSample(
            metainfo=dict(
                img_id=i,
                img_path=f'{i}.jpg',
                ori_shape=(height, width),
                img_shape=(height, width),
                scale_factor=(1.0, 1.0),
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=torch.cat([corners, corners + 64], 1),
            labels=torch.arange(7 + i) % cfg.model.bbox_head.num_classes,
        )
        inputs.append(random_images(generator, 3, height, width))
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def random_images(generator: torch.Generator, *shape: int) -> torch.Tensor:
    """Return uint8 images, with a GPU in pinned memory, as of data loaders with ``pin_memory``."""
    images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    return images.pin_memory() if get_device() == 'cuda' else images
