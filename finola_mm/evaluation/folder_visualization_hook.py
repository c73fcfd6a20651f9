"""Pictures of a test in the folders of their images."""

import os
from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook

from ..registry import HOOKS


@HOOKS.register_module()
class FolderVisualizationHook(Hook):
    """Run a visualization hook of mmdet or mmpretrain; its pictures keep their images' folders.

    Those hooks name pictures after base names, so images of several folders overwrite each other's.

    Args:
        hook (dict): Config of the hook; its ``test_out_dir`` or ``out_dir`` is the output folder.
    """

    def __init__(self, hook: dict):
        self.hook = HOOKS.build(hook)
        self.option = 'test_out_dir' if hasattr(self.hook, 'test_out_dir') else 'out_dir'
        self.out_dir = getattr(self.hook, self.option)

    def before_test(self, runner):
        data = runner.test_dataloader.dataset
        paths = (
            [data.get_data_info(i)['img_path'] for i in range(len(data))] if self.out_dir else []
        )
        self.root = os.path.commonpath([_folder(path) for path in paths] or ['/'])

    def after_test_iter(self, runner, batch_idx: int, data_batch: Any, outputs: Sequence):
        first = batch_idx * runner.test_dataloader.batch_size
        for i, sample in enumerate(outputs):
            if self.out_dir:
                below = os.path.relpath(_folder(sample.img_path), self.root)
                setattr(self.hook, self.option, os.path.normpath(os.path.join(self.out_dir, below)))
            one = {name: batch[i : i + 1] for name, batch in data_batch.items()}
            self.hook.after_test_iter(runner, first + i, one, [sample])


def _folder(path: str) -> str:
    return os.path.dirname(os.path.abspath(path))
