"""Pictures of a test in the folders of their images."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from mmengine.hooks import Hook

from ..datasets.decoding import decode
from ..registry import HOOKS


@HOOKS.register_module()
class FolderVisualizationHook(Hook):
    """Run a visualization hook of mmdet or mmpretrain; its pictures keep their images' folders.

    Those hooks name pictures after base names, so images of several folders overwrite each other's.
    mmdet's hook reads images by mmcv, which leaves some formats turned; here it reads them as ours.

    Args:
        hook (dict): Config of the hook, with its output folder, ``test_out_dir`` or ``out_dir``.
    """

    def __init__(self, hook: dict):
        self.hook = HOOKS.build(hook)
        self.option = 'test_out_dir' if 'test_out_dir' in hook else 'out_dir'
        self.out_dir = hook[self.option]

    def before_test(self, runner):
        dataset = runner.test_dataloader.dataset
        paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
        self.root = os.path.commonpath([Path(path).absolute().parent for path in paths])

    def after_test_iter(self, runner, batch_idx: int, data_batch: Any, outputs: Sequence):
        first = batch_idx * runner.test_dataloader.batch_size
        for i, sample in enumerate(outputs):
            below = Path(sample.img_path).absolute().parent.relative_to(self.root)
            setattr(self.hook, self.option, str(Path(self.out_dir, below)))
            one = {name: batch[i : i + 1] for name, batch in data_batch.items()}
            with mock.patch('mmcv.imfrombytes', read_rgb):
                self.hook.after_test_iter(runner, first + i, one, [sample])


def read_rgb(data: bytes, **_: Any) -> np.ndarray:
    """Decode an image as in training, in place of ``mmcv.imfrombytes``."""
    return decode(data, 'the image')[0][..., ::-1]
