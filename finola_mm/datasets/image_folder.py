"""Images of a folder for pre-training and classification. Requires mmpretrain."""

import logging
from collections.abc import Sequence
from typing import Any

from mmengine.logging import print_log
from mmpretrain.datasets import CustomDataset

from ..errors import UserError, list_names
from ..registry import DATASETS
from .image_files import IMAGE_SUFFIXES, list_classes, list_images


@DATASETS.register_module()
class ImageFolder(CustomDataset):
    """mmpretrain's ``CustomDataset``, with the images and class folders of ``image_files.py``.

    Labels are numbered as in mmpretrain, by the sorted names of the class folders.

    Args:
        extensions (Sequence[str]): Suffixes of images. Defaults to ``IMAGE_SUFFIXES``.
        *args, **kwargs: Arguments of ``CustomDataset``.
    """

    def __init__(self, *args: Any, extensions: Sequence[str] = IMAGE_SUFFIXES, **kwargs: Any):
        super().__init__(*args, extensions=extensions, **kwargs)

    def _find_samples(self) -> list:
        images = list_images(self.img_prefix, self.extensions)
        if not self.with_label:
            return images
        images_of: dict[str, list[str]] = {name: [] for name in list_classes(self.img_prefix)}
        outside: list[str] = []
        for image in images:
            images_of.get(image.partition('/')[0], outside).append(image)
        empty = [name for name, images in images_of.items() if not images]
        if len(empty) == len(images_of) or len(self.CLASSES or images_of) != len(images_of):
            expected = f'{len(self.CLASSES)} (metainfo.classes)' if self.CLASSES else 'at least one'
            found = f'{len(images_of)} class folders, {len(empty)} of them without images'
            found = found if images_of else 'no class folders'
            raise UserError(
                f'{self.img_prefix} contains {found}; expected {expected}. Create a folder with '
                'images for each class.'
            )
        for what, names in (('images outside class folders', outside), ('empty classes', empty)):
            if names:
                message = f'{self.img_prefix}: {len(names)} {what} ({list_names(names)})'
                print_log(message, logger='current', level=logging.WARNING)
        self._metainfo.setdefault('classes', tuple(images_of))
        self.folder_to_idx = {name: label for label, name in enumerate(images_of)}
        return [
            (image, self.folder_to_idx[name]) for name in images_of for image in images_of[name]
        ]
