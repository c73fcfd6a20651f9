"""Feature vectors of labelled images, by which an encoder is judged without training.

The feature of an image is the global average of the encoder's last map; the image is seen whole,
as at test time.

Legend: N images, C channels.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from mmengine.dataset import default_collate
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset


def evenly_spaced(length: int, count: int | None) -> range | list[int]:
    """``count`` of the indices below ``length`` at equal distances; all, where there are no more.

    Data in order of its classes so gives as many images of each as they allow.
    """
    if count is None or count >= length:
        return range(length)
    return [i * length // count for i in range(count)]


def image_loader(
    dataset: Dataset, indices: Sequence[int], *, batch_size: int, num_workers: int
) -> DataLoader:
    """Batches of these images, in this order; no global random stream is drawn from."""
    return DataLoader(
        Subset(dataset, indices),
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=default_collate,
        generator=torch.Generator(),  # the workers' seeds would come from the global one
    )


def encode_batches(
    encoder: nn.Module, preprocessor: nn.Module, batches: Iterable[dict]
) -> Iterator:
    """Yields the features (n, C) in float32 and the labels (n,) of each batch, both on the CPU.

    The encoder is in eval mode until the last batch, and then as it was in all its parts.
    """
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()
    try:
        for batch in batches:
            with torch.no_grad():
                data = preprocessor(batch, False)
                features = global_pool(encoder, data['inputs'])
            labels = [sample.gt_label for sample in data['data_samples']]
            yield features.float().cpu(), torch.cat(labels).cpu()
    finally:
        for module, training in modes.items():
            module.training = training


def gather_features(encoded: Iterable[tuple[Tensor, Tensor]], count: int) -> tuple[Tensor, Tensor]:
    """The batches of ``encode`` in one: features (count, C), held once, and labels (count,)."""
    features, labels, end = torch.empty(0), [], 0
    for part, classes in encoded:
        if not labels:
            features = part.new_empty(count, part.shape[1])
        features[end : end + len(part)] = part
        labels.append(classes)
        end += len(part)
    return features, torch.cat(labels)


def global_pool(encoder: nn.Module, images: Tensor) -> Tensor:
    """Images (N, 3, H, W) -> (N, C), the average of the last map; a vector stays as it is.

    Raises:
        ValueError: an encoder that gives neither.
    """
    # Not by calling it: what CompileHook compiled is for the shape of the training's images.
    found = encoder.forward(images)
    if isinstance(found, tuple) and isinstance(found[0], tuple):  # maps and tokens
        found = found[0]
    last = found[-1] if isinstance(found, (tuple, list)) else found
    if last.ndim == 4:
        return last.mean((2, 3))
    if last.ndim == 2 and last.is_floating_point():
        return last
    raise ValueError(
        f'the last output of {type(encoder).__name__} is {last.dtype} of shape '
        f'{tuple(last.shape)}; expected a map (N, C, H, W) or a vector (N, C)'
    )
