"""Load trained models and batches of images from a config, a checkpoint and image files."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate
from mmengine.device import get_device
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, init_default_scope
from torch import Tensor, nn

from ..datasets import SampleKey, innermost_datasets, seeded
from ..engine import find_checkpoint, load_weights
from ..errors import UserError, list_names
from ..layers import FINOLALayer
from ..registry import MODELS
from .config import require
from .cpu import optimize_for_cpu


def load_model(cfg: Config, checkpoint: str) -> BaseModel:
    """Build the config's model in eval mode and load weights from a file or a work directory."""
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    model = MODELS.build(cfg.model)
    load_weights(model, find_checkpoint(checkpoint), allow_unused=False)
    return optimize_for_cpu(model.to(get_device()).eval())


def find_finola(model: nn.Module) -> FINOLALayer:
    """Return the model's ``FINOLALayer``.

    Raises:
        UserError: the model has none, or its steps are not norm+linear.
    """
    finola = getattr(model.neck, 'finola', None)
    step = getattr(finola, 'step', 'norm_linear')
    if finola is None or step != 'norm_linear':
        raise UserError(
            f'wave equations exist only for norm+linear steps; the steps of '
            f'{type(model.neck).__name__} are {step if finola else None!r}. Choose a model with '
            "step='norm_linear'"
        )
    return finola


def load_metainfo(cfg: Config) -> dict:
    """Return the metainfo of the config's test data, with ``classes``; no file is read."""
    dataset = next(innermost_datasets(cfg.test_dataloader.dataset))
    return dict(DATASETS.build(dict(dataset, lazy_init=True)).metainfo)


def load_batch(
    cfg: Config,
    files: Sequence[Path],
    *,
    offset: Sequence[int] | None = None,
    seed: int = 0,
    first: int = 0,
) -> dict:
    """Load files with the config's test pipeline as one batch for ``model.val_step``.

    Unreadable files are reported and skipped.

    offset: (row, col) of the visible block. By default it is drawn from ``seed`` and the index of
        the file among all files.
    first: index of the first of ``files`` among all files.
    """
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    require(cfg, 'test_dataloader')
    pipeline = Compose(next(innermost_datasets(cfg.test_dataloader.dataset))['pipeline'])
    samples = []
    for i, file in enumerate(files, first):
        with seeded(SampleKey(seed, 0, i)):
            try:
                samples.append(pipeline(dict(img_path=str(file), sample_idx=i)))
            except Exception as error:  # decoders raise different types
                reason = error if isinstance(error, UserError) else repr(error)
                print(f'skipped: {file} cannot be read as an image ({reason})')
    if not samples:
        raise UserError(f'none of {list_names(files)} can be read; see the lines above')
    if offset is not None:
        for sample in samples:
            sample['data_samples'].set_metainfo(dict(block_offset=tuple(offset)))
    return default_collate(samples)


def load_inputs(
    model: BaseModel, cfg: Config, files: Sequence[Path], *, batch_size: int = 32, seed: int = 0
) -> Iterator[tuple[Tensor, list]]:
    """Yield normalized images (N, 3, H, W) and data samples, batch by batch."""
    for first in range(0, len(files), batch_size):
        batch = load_batch(cfg, files[first : first + batch_size], seed=seed, first=first)
        with torch.no_grad():
            data = model.data_preprocessor(batch)
        yield data['inputs'], data['data_samples']
