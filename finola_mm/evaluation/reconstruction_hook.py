"""Pictures of what a model makes of images of which it saw one block."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.structures import BaseDataElement
from PIL import Image, ImageDraw

from ..registry import HOOKS

GREY = 128  # what is not visible, in the row that shows the visible block
LABEL_WIDTH = 72  # pixels left of the rows
GAP = 2  # pixels between images


def draw_reconstructions(samples: Sequence[BaseDataElement]) -> np.ndarray:
    """One column for each sample, rows original / visible block / prediction / composed.

    samples: as from ``MaskedFINOLA.predict``, with ``original`` and ``reconstruction``
    (3, H, W) RGB in [0, 1] and ``mask`` (1, H, W), True = masked. "Composed" shows the visible
    block inside the prediction. Where all is masked, as from ``FINOLA.predict``, original and
    prediction are all there is to see. Returns an RGB image, (rows, columns, 3) uint8.
    """
    rows = [_rows(sample) for sample in samples]
    names = list(rows[0])
    if all(sample.mask.all() for sample in samples):
        names = ['original', 'prediction']
    columns = [[row[name] for name in names] for row in rows]
    height, width = columns[0][0].shape[:2]
    canvas = np.full(
        (len(names) * (height + GAP) - GAP, LABEL_WIDTH + len(columns) * (width + GAP), 3),
        255,
        np.uint8,
    )
    for i, column in enumerate(columns):
        for j, image in enumerate(column):
            y, x = j * (height + GAP), LABEL_WIDTH + GAP + i * (width + GAP)
            canvas[y : y + height, x : x + width] = image
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    for j, name in enumerate(names):
        draw.text((4, j * (height + GAP) + height // 2 - 6), name, fill=(0, 0, 0))
    return np.asarray(picture)


def _rows(sample: BaseDataElement) -> dict[str, np.ndarray]:
    original, prediction = (
        (image.detach().cpu().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        for image in (sample.original, sample.reconstruction)
    )  # (H, W, 3) each
    masked = sample.mask.cpu().permute(1, 2, 0).numpy()  # (H, W, 1), True = masked
    visible = np.where(masked, np.uint8(GREY), original)
    composed = np.where(masked, prediction, original)
    return dict(original=original, visible=visible, prediction=prediction, composed=composed)


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """Show some images of every validation and test, taken from all over the data.

    Validation pictures go to the visualizer's backends (files, TensorBoard), a test's picture to
    ``out_dir``.

    Args:
        enable (bool): Whether to draw at all. Defaults to True.
        num_images (int): How many images. Defaults to 8.
        out_dir (str, optional): Where a test writes ``reconstruction.png``. Defaults to None.
    """

    def __init__(self, *, enable: bool = True, num_images: int = 8, out_dir: str | None = None):
        self.enable = enable
        self.num_images = num_images
        self.out_dir = out_dir
        self.kept: list[BaseDataElement] = []

    @master_only
    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.enable:
            self._keep(outputs, len(runner.val_dataloader))

    @master_only
    def after_val_epoch(self, runner, metrics=None):
        if self.enable:
            runner.visualizer.add_image('reconstruction', self._draw(), step=runner.iter)

    @master_only
    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.enable and self.out_dir:
            self._keep(outputs, len(runner.test_dataloader))

    @master_only
    def after_test_epoch(self, runner, metrics=None):
        if self.enable and self.out_dir:
            path = Path(self.out_dir, 'reconstruction.png')
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(self._draw()).save(path)
            runner.logger.info(f'Wrote {path}')

    def _keep(self, samples: Sequence[BaseDataElement], num_batches: int) -> None:
        """The same number from every batch, enough for ``num_images`` in the end."""
        self.kept += _spread(samples, -(-self.num_images // num_batches))

    def _draw(self) -> np.ndarray:
        picture = draw_reconstructions(_spread(self.kept, self.num_images))
        self.kept = []
        return picture


def _spread(items: Sequence, count: int) -> list:
    """``count`` of the items at equal distances; all, where there are no more."""
    return list(items[:: max(len(items) // count, 1)][:count])
