"""Feature vectors of labelled images, for evaluating an encoder without training.

The feature vector of an image is the global average of the encoder's last map, computed from the
whole image, as at test time.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dataset import default_collate
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from ..engine.workers import raise_send_errors
from ..errors import UserError


def image_loader(dataset: Dataset, indices: Sequence[int], **options: Any) -> DataLoader:
    """Load these images in this order, without drawing from a global random generator.

    options: arguments of ``DataLoader``, such as ``batch_size`` and ``num_workers``.
    """
    # By default the workers' seeds come from the global generator.
    options |= dict(generator=torch.Generator(), collate_fn=default_collate)
    options.setdefault('worker_init_fn', raise_send_errors)
    return DataLoader(Subset(dataset, indices), **options)


def encode_batches(
    encoder: nn.Module, preprocessor: nn.Module, batches: Iterable[dict]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the features (n, C) in float32 and the labels (n,) of each batch, on the CPU.

    The encoder is in eval mode until the last batch.
    """
    with eval_mode(encoder):
        for batch in batches:
            with torch.no_grad():
                data = preprocessor(batch, False)
                features = global_pool(encoder, data['inputs'])
            labels = [sample.gt_label for sample in data['data_samples']]
            yield features.float().cpu(), torch.cat(labels).cpu()


@contextmanager
def eval_mode(encoder: nn.Module) -> Iterator[None]:
    """Set eval mode, and restore the mode of each module at the end."""
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def gather_features(encoded: Iterable[tuple[Tensor, Tensor]], count: int) -> tuple[Tensor, Tensor]:
    """Join encoded batches into features (count, C), allocated once, and labels (count,)."""
    features, end = torch.empty(0), 0
    labels: list[Tensor] = []
    for part, classes in encoded:
        if not labels:
            features = part.new_empty(count, part.shape[1])
        features[end : end + len(part)] = part
        labels.append(classes)
        end += len(part)
    return features, torch.cat(labels)


def global_pool(encoder: nn.Module, images: Tensor) -> Tensor:
    """Pool images (N, 3, H, W) -> (N, C), the average of the last map or the encoder's vector.

    Raises:
        UserError: the encoder returns neither a map nor a vector.
    """
    # forward, not __call__: CompileHook compiles the latter for the shape of training images.
    last = last_map(encoder.forward(images))
    if last.ndim == 4:
        return last.mean((2, 3))
    if last.ndim == 2 and last.is_floating_point():
        return last
    raise UserError(
        f'the last output of {type(encoder).__name__} is {last.dtype} of shape '
        f'{tuple(last.shape)}; expected a map (N, C, H, W) or a vector (N, C)'
    )


def last_map(output: Any) -> Tensor:
    """Return the last map (N, C, h, w) of an encoder's output, or the vector (N, C) that it is."""
    if isinstance(output, tuple) and isinstance(output[0], tuple):  # maps and tokens
        output = output[0]
    return output[-1] if isinstance(output, (tuple, list)) else output


def check_features(features: Tensor, labels: Tensor) -> None:
    """Raise UserError unless features (n, D) are finite and labels (n,) int64, counted from 0."""
    if features.ndim != 2 or not len(features) or not features.is_floating_point():
        raise UserError(
            f'features are {features.dtype} of shape {tuple(features.shape)}; expected '
            'floating-point numbers of shape (images, channels)'
        )
    if labels.shape != features.shape[:1] or labels.dtype != torch.int64 or labels.min() < 0:
        raise UserError(
            f'labels are {labels.dtype} of shape {tuple(labels.shape)} with minimum '
            f'{labels.min().item() if labels.numel() else None}; expected int64 of shape '
            f'({len(features)},), counted from 0'
        )
    invalid = ~torch.linalg.vector_norm(features, dim=1).isfinite()  # (n,)
    if invalid.any():
        raise UserError(
            f'{int(invalid.sum())} of {len(features)} feature vectors are not finite; check for '
            "NaN in the encoder's weights and in the images"
        )
