"""A trained model and images for the tools: config, checkpoint and files -> model and batches."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from ..datasets import SampleKey, seeded
from ..engine import find_checkpoint, load_weights
from ..registry import MODELS
from .cpu import optimize_for_cpu


def load_model(cfg: Config, checkpoint: str) -> nn.Module:
    """The config's model with the weights of a file or of a work directory, ready to predict.

    Raises:
        CheckpointError: the checkpoint is missing or does not fit.
    """
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    model = MODELS.build(cfg.model)
    load_weights(model, find_checkpoint(checkpoint), allow_unused=False)
    return optimize_for_cpu(model.to(get_device()).eval())


def load_batch(
    cfg: Config,
    files: Sequence[Path],
    *,
    offset: Sequence[int] | None = None,
    seed: int = 0,
    first: int = 0,
) -> dict:
    """The files as one batch of the config's test pipeline, for ``model.val_step``.

    offset: (row, col) of the visible block, by default drawn by ``seed`` and the file's place in
    the order of all files, of which ``first`` is that of the first one here.

    Raises:
        ValueError: for a file that cannot be read as an image.
    """
    pipeline = Compose(cfg.test_pipeline)
    samples = []
    for i, file in enumerate(files, first):
        with seeded(SampleKey(seed, 0, i)):
            try:
                samples.append(pipeline(dict(img_path=str(file), sample_idx=i)))
            except Exception as error:  # each decoder has its own way to fail
                raise ValueError(f'{file} cannot be read as an image ({error!r})') from None
    if offset is not None:
        for sample in samples:
            sample['data_samples'].set_metainfo(dict(block_offset=tuple(offset)))
    return default_collate(samples)


def load_inputs(
    model: nn.Module, cfg: Config, files: Sequence[Path], *, batch_size: int = 32, seed: int = 0
) -> Iterator[tuple[Tensor, list]]:
    """Batches of the files as the model takes them: normalised images (N, 3, H, W), data samples.

    Raises:
        ValueError: for a file that cannot be read as an image.
    """
    for first in range(0, len(files), batch_size):
        batch = load_batch(cfg, files[first : first + batch_size], seed=seed, first=first)
        with torch.no_grad():
            data = model.data_preprocessor(batch)
        yield data['inputs'], data['data_samples']
