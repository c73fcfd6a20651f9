"""Load encoders, with their normalization.

Training checkpoints of ``AtomicCheckpointHook`` record the encoder's config; extracted encoders and
published models keep it.
"""

import re
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import DefaultScope
from PIL import Image
from torch import Tensor, nn

from ..backbones.mobile_former import MobileFormer
from ..engine import checkpoint_metadata, read_checkpoint, write_weights
from ..engine.checkpoints.state_dict_match import compare, encoder_part, find_tensors, load_matched
from ..engine.hooks.atomic_checkpoint_hook import TRAINING_ONLY
from ..errors import CheckpointError
from ..evaluation.features import last_map
from ..registry import MODELS
from .hub import CARD, HUB_FILE, ModelHubMixin, download_from_hub, find_weights
from .images import ImageLike, read_image

MOBILE_FORMER = ('finola_mm.MobileFormer', 'MobileFormer')
IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)

# MMEngine's registry imports and calls any function whose dotted name is a type; a file may name
# only registered classes.
REGISTERED = re.compile(r'((finola_mm|mmpretrain|mmdet)\.)?\w+')


class Encoder(
    nn.Module,
    ModelHubMixin,
    library_name='finola_mm',
    license='apache-2.0',
    pipeline_tag='image-feature-extraction',
    tags=['finola', 'masked-image-modelling'],
    paper_url='https://arxiv.org/abs/2305.16319',
    model_card_template=CARD,
):
    """A trained encoder with its normalization.

    ``encoder(images)`` returns what the backbone returns: for ``MobileFormer`` a tuple of maps. Any
    image size is accepted that the backbone accepts; for ``MobileFormer``, sides of at least 32
    pixels.

    With huggingface_hub installed, ``save_pretrained(folder)``, ``push_to_hub(repo_id)`` and
    ``Encoder.from_pretrained(folder or repo_id)`` are those of its ``ModelHubMixin``.

    Args:
        backbone (nn.Module): The encoder, in eval mode.
        metadata (dict): ``encoder``, the config of the backbone, and optionally ``normalization``
            (MMEngine's mean, std and to_rgb), ``input_size`` and the origin of the weights.

    Attributes:
        backbone (nn.Module): For use in another model.
        metadata (dict): As recorded in the file.
        arch (str | dict | None): The size of the network, such as 'w720'.
        mean, std (tuple[float, ...]): Of the channels, for images with values from 0 to 1.
        channel_order (str): 'RGB' or 'BGR', of the input and of ``mean`` and ``std``.
        input_size (int): The side of the images in the validation of the pre-training; 224 if the
            file does not record it.
    """

    def __init__(self, backbone: nn.Module, metadata: dict[str, Any]):
        super().__init__()
        self.backbone = backbone
        self.training = backbone.training
        self.metadata = metadata
        self.arch = metadata.get('encoder', {}).get('arch')
        recorded = metadata.get('normalization', IMAGENET)
        self.mean = tuple(value / 255 for value in recorded.get('mean', (0, 0, 0)))
        self.std = tuple(value / 255 for value in recorded.get('std', (1, 1, 1)))
        self.channel_order = 'RGB' if recorded.get('to_rgb') else 'BGR'
        self.input_size = metadata.get('input_size', 224)

    def forward(self, images: Tensor) -> Any:
        """Normalized images (N, 3, H, W) -> the output of the backbone, such as a tuple of maps."""
        return self.backbone(images)

    def forward_features(self, images: Tensor) -> Tensor:
        """Normalized images (N, 3, H, W) -> the last map (N, C, h, w), as in timm."""
        return last_map(self(images))

    def preprocess(self, image: ImageLike, size: int | None = None) -> Tensor:
        """Turn an image into a normalized tensor (3, size, size).

        As in validation, the shorter side is resized to ``size``, and the centre is cropped.

        Args:
            image: A file, a PIL image or an RGB array (h, w, 3) of uint8.
            size (int, optional): Defaults to ``input_size``.

        Raises:
            UserError: the image cannot be read.
        """
        size = size or self.input_size
        pixels = read_image(image)
        height, width = pixels.shape[:2]
        shorter = min(height, width)
        width, height = int(size * width / shorter), int(size * height / shorter)
        left, top = round((width - size) / 2), round((height - size) / 2)
        resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
        crop = np.asarray(resized.crop((left, top, left + size, top + size)))
        if self.channel_order == 'BGR':
            crop = crop[..., ::-1]
        values = torch.from_numpy(crop.transpose(2, 0, 1).astype(np.float32) / 255)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return (values - mean) / std

    def generate_model_card(self, **kwargs: Any) -> Any:
        facts = {key: value for key, value in self.metadata.items() if key != 'widths'}
        name = Path(str(self.metadata.get('source', 'encoder'))).name
        return super().generate_model_card(name=name, facts=facts, file=HUB_FILE, **kwargs)

    def _save_pretrained(self, save_directory: Path) -> None:
        weights = self.backbone.state_dict()
        meta = {**self.metadata, 'part': 'encoder'}
        write_weights(save_directory / HUB_FILE, weights, meta=meta, force=True)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        **model_kwargs: Any,
    ) -> 'Encoder':
        if Path(model_id).is_dir():
            return load_encoder(model_id)
        file = download_from_hub(
            model_id,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
        )
        return load_encoder(file)


def load_encoder(source: str | PathLike) -> Encoder:
    """Build the encoder recorded in a file and load its weights.

    Args:
        source (str | Path): The name of published weights; a file: an extracted encoder, a
            published model or a training checkpoint; a work directory, whose last checkpoint is
            used; an address (``https://``, ``file://``); or the id of a repository on the Hugging
            Face Hub, ``user/repository``.

    Returns:
        Encoder: On the CPU, in eval mode, with the arguments it was trained with.

    Raises:
        CheckpointError: the file is unreadable or unsafe, does not record an encoder, or its
            tensors are not exactly those of the recorded encoder.
    """
    file, tensors, metadata = read_weights(source)
    return Encoder(build_encoder(file, metadata, encoder_part(tensors)), metadata)


def read_weights(source: str | PathLike) -> tuple[str, dict[str, Tensor], dict[str, Any]]:
    """Return the file of weights, as found by ``find_weights``, its tensors and its metadata."""
    file = find_weights(source)
    checkpoint = read_checkpoint(file)
    return file, find_tensors(checkpoint, file), checkpoint_metadata(checkpoint)


def build_encoder(path: str, metadata: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    recorded = dict(metadata.get('encoder', {}))
    if 'type' not in recorded:
        raise CheckpointError(
            f'{path} does not record the config of its encoder in meta.encoder. Use a checkpoint '
            'written by finola_mm.AtomicCheckpointHook, or load this one with its config: '
            'tools/train.py CONFIG --pretrained FILE'
        )
    unsafe = [name for name in _names_of_types(recorded) if not REGISTERED.fullmatch(str(name))]
    if unsafe:
        raise CheckpointError(
            f'{path} records an encoder with the type {unsafe[0]!r}; expected the name of a '
            'component of finola_mm, mmpretrain or mmdet'
        )
    if ':' in str(recorded.get('model_name')):  # timm would download such a model, or read a folder
        raise CheckpointError(
            f'{path} records the timm model {recorded["model_name"]!r}; expected the name of a '
            'model without address'
        )
    is_mobile_former = recorded['type'] in MOBILE_FORMER
    try:
        if is_mobile_former:
            with torch.device('meta'):  # no memory and no random numbers for initial weights
                encoder: nn.Module = MobileFormer(**_arguments(recorded))
        else:  # others compute with values while they are built
            with DefaultScope.overwrite_default_scope('mmpretrain'):
                encoder = MODELS.build(
                    {k: v for k, v in recorded.items() if k not in TRAINING_ONLY}
                )
    except (ImportError, LookupError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise CheckpointError(f'{path} records the encoder {recorded}: {error}') from None
    match = compare(encoder, tensors)
    wrong = match.missing or match.reshaped or match.unused
    if wrong:
        raise CheckpointError(
            f'{path} does not have the tensors of the recorded encoder {recorded}: {wrong[0]}'
        )
    if is_mobile_former:
        encoder.to_empty(device='cpu')
    load_matched(encoder, tensors, path)
    encoder.eval()  # mmpretrain's backbones return None
    return encoder


def _arguments(recorded: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in recorded.items() if key != 'type'}


def _names_of_types(node: Any) -> Iterator[Any]:
    """Yield everything in a recorded config that a class would look up in a registry."""
    if isinstance(node, dict):
        yield from (node[key] for key in ('type', 'norm_layer', 'act_layer') if key in node)
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from _names_of_types(item)
