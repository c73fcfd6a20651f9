"""The kinds of config: each with a model, its optimizer, and batches as a data loader gives them.

Configs that differ only in width, channels or the share of labelled data launch the same kernels.
One of them represents its kind. Images are blank: on the null GPU, values do not matter.
"""

import random
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from finola_mm.engine import merge_param_groups
from finola_mm.registry import MODELS

CONFIGS = Path(__file__).parents[2] / 'configs'
FOLDERS = ('selfsup', 'selfsup/ablations', 'classification', 'det')
# The null GPU cannot run these.
LEFT_OUT = {
    'det/dino_mf': "requires mmcv's CUDA operators",
    'det/retinanet_mf': "requires mmcv's CUDA operators",
}
# (height, width) of the images of a batch, in turns, where the shorter side is at most 800 pixels
SCENES = [(800, 1216), (768, 1152), (800, 1066), (640, 960)]


def kinds() -> list[str]:
    """Return a config of each kind, the narrowest, as a path below configs/ without suffix."""
    families = defaultdict(list)
    for folder in FOLDERS:
        for path in sorted((CONFIGS / folder).glob('*.py')):
            name = f'{folder}/{path.stem}'
            families[re.sub(r'_[wc]\d+(?=_|$)', '', name)].append(name)
    return [next((n for n in names if '_w720' in n), names[0]) for names in families.values()]


class Trainee:
    """A model with random weights (seed 0) on the device, and its optimizer in bfloat16.

    batch_size: images of a batch; by default that of the config
    """

    def __init__(self, cfg: Config, batch_size: int | None = None) -> None:
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(0)
        self.cfg = cfg
        self.batch_size = batch_size or cfg.train_dataloader.batch_size
        init_default_scope(cfg.default_scope)
        remove_checkpoints(cfg.model)
        self.model = MODELS.build(cfg.model).cuda().train()
        self.optim_wrapper: OptimWrapper = build_optim_wrapper(
            self.model, cfg.optim_wrapper | dict(type='finola_mm.BFloat16OptimWrapper')
        )
        merge_param_groups(self.optim_wrapper.optimizer)

    def batch(self) -> dict[str, Any]:
        return make_batch(self.cfg, self.batch_size)

    def train_step(self, batch: dict[str, Any]) -> None:
        self.model.train()
        self.model.train_step(batch, self.optim_wrapper)

    def predict(self, batch: dict[str, Any]) -> None:
        self.model.eval()
        with torch.no_grad():
            self.model.val_step(batch)


def load_config(kind: str) -> Config:
    """Load the config of a kind and the parts of the package that it names."""
    return Config.fromfile(CONFIGS / f'{kind}.py')


def remove_checkpoints(cfg: ConfigDict) -> None:
    """Remove initializers that read a file."""
    if 'checkpoint' in (cfg.get('init_cfg') or {}):
        cfg.init_cfg = None
    for value in cfg.values():
        if isinstance(value, ConfigDict):
            remove_checkpoints(value)


def make_batch(cfg: Config, batch_size: int) -> dict[str, Any]:
    """Return a batch of blank images as the data loader of ``cfg`` gives it."""
    if cfg.default_scope == 'mmdet':
        return detection_batch(cfg, batch_size)
    from mmpretrain.structures import DataSample

    samples = [DataSample() for _ in range(batch_size)]
    if cfg.model.type == 'MoCo':
        views = [blank_images(batch_size, 3, 224, 224) for _ in range(2)]
        return dict(inputs=views, data_samples=samples)
    if cfg.model.type == 'ImageClassifier':
        for i, sample in enumerate(samples):
            sample.set_gt_label(i % cfg.model.head.num_classes)
        return dict(inputs=blank_images(batch_size, 3, 224, 224), data_samples=samples)
    size = 256
    offsets = size // 2 // 16 + 1  # the visible block is at one of 0 to 8 patches
    for i, sample in enumerate(samples):
        # The first block borders on no edge; the next ones are on edges and elsewhere.
        block_offset = ((3 + 5 * i) % offsets, (5 + 7 * i) % offsets)
        sample.set_metainfo(dict(block_offset=block_offset, sample_idx=i))
    return dict(inputs=blank_images(batch_size, 3, size, size), data_samples=samples)


def detection_batch(cfg: Config, batch_size: int) -> dict[str, Any]:
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
        inputs.append(blank_images(3, height, width))
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def blank_images(*shape: int) -> torch.Tensor:
    """Return a tensor in pinned memory, as of data loaders with ``pin_memory``."""
    return torch.zeros(shape, dtype=torch.uint8).pin_memory()
