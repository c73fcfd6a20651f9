"""Features of images, from a trained encoder."""

from itertools import islice

import torch
from torch import Tensor

from ..errors import UserError
from ..evaluation.features import eval_mode, global_pool
from .encoder import Encoder
from .images import Source, iterate_images


def extract_features(
    encoder: Encoder, images: Source, *, size: int | None = None, batch_size: int = 32
) -> Tensor:
    """Compute pooled features of images: the average over the encoder's last map.

    Args:
        encoder (Encoder): From ``load_encoder``; on a GPU after ``encoder.cuda()``.
        images: An image: a file, a PIL image or an RGB array (h, w, 3) of uint8. Or several: a
            folder, sorted by name, a video file, or an iterable of images.
        size (int, optional): The side of the images in pixels, see ``Encoder.preprocess``. Defaults
            to ``encoder.input_size``.
        batch_size (int): Images per forward pass. Defaults to 32.

    Returns:
        Tensor: (N, C), float32 on the CPU; (1, C) for one image.

    Raises:
        UserError: an image cannot be read, or there is none.
    """
    device = next(encoder.parameters()).device
    inputs = (encoder.preprocess(image, size) for image in iterate_images(images))
    features = []
    with eval_mode(encoder), torch.no_grad():
        while batch := list(islice(inputs, batch_size)):
            features.append(global_pool(encoder, torch.stack(batch).to(device)).float().cpu())
    if not features:
        raise UserError('there are no images; expected at least one')
    return torch.cat(features)
