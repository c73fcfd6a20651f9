"""Draw reconstructed images next to the originals."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.structures import BaseDataElement
from mmengine.visualization import MLflowVisBackend
from PIL import Image, ImageDraw
from torch import Tensor

from ..datasets import evenly_spaced
from ..registry import HOOKS

GREY = 128  # of masked pixels in the row of the visible block
LABEL_WIDTH = 72  # pixels left of the rows
GAP = 2  # pixels between images


def draw_reconstructions(
    samples: Sequence[BaseDataElement], others: Mapping[str, Tensor] | None = None
) -> np.ndarray:
    """Draw one column per sample, with rows original / visible block / prediction / composed.

    "Composed" shows the visible block inside the prediction. If every pixel is masked, as in
    ``FINOLA.predict``, the rows are only original and prediction.

    Each sample has ``original`` and ``reconstruction`` (3, H, W), RGB in [0, 1], and ``mask``
    (1, H, W), True = masked. ``others`` are more rows by name, (N, 3, H, W), such as baselines. The
    picture is (rows, columns, 3) uint8, RGB.
    """
    columns = [_column(sample) for sample in samples]
    for name, images in (others or {}).items():
        for column, image in zip(columns, images, strict=True):
            column[name] = _pixels(image)
    return _draw(columns)


def _draw(columns: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    names = list(columns[0])
    height, width = columns[0]['original'].shape[:2]
    size = len(names) * (height + GAP) - GAP, LABEL_WIDTH + len(columns) * (width + GAP)
    canvas = np.full((*size, 3), 255, np.uint8)
    for i, column in enumerate(columns):
        for j, name in enumerate(names):
            y, x = j * (height + GAP), LABEL_WIDTH + GAP + i * (width + GAP)
            canvas[y : y + height, x : x + width] = column[name]
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    for j, name in enumerate(names):
        draw.text((4, j * (height + GAP) + height // 2 - 6), name, fill=(0, 0, 0))
    return np.asarray(picture)


def _column(sample: BaseDataElement) -> dict[str, np.ndarray]:
    original, prediction = map(_pixels, (sample.original, sample.reconstruction))
    if sample.mask.all():
        return dict(original=original, prediction=prediction)
    masked = sample.mask.cpu().permute(1, 2, 0).numpy()  # (H, W, 1), True = masked
    visible = np.where(masked, np.uint8(GREY), original)
    composed = np.where(masked, prediction, original)
    return dict(original=original, visible=visible, prediction=prediction, composed=composed)


def _pixels(image: Tensor) -> np.ndarray:
    """(3, H, W), [0, 1] -> (H, W, 3) uint8."""
    pixels = image.detach().cpu().float().clamp(0, 1) * 255
    return pixels.round().byte().permute(1, 2, 0).numpy()


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """Draw evenly spaced images during validation and testing.

    Validation pictures go to the visualizer's back ends (files, TensorBoard, MLflow); that of
    a test goes to ``out_dir``.

    Args:
        enable (bool): Whether to draw pictures. Defaults to True.
        num_images (int): Number of images. Defaults to 8.
        out_dir (str, optional): Folder for the test's ``reconstruction.png``. Defaults to None.
    """

    def __init__(self, *, enable: bool = True, num_images: int = 8, out_dir: str | None = None):
        self.enable = enable
        self.num_images = num_images
        self.out_dir = out_dir
        self.kept: list[dict[str, np.ndarray]] = []

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self._keep(outputs, batch_idx, len(runner.val_dataloader))

    def after_val_epoch(self, runner, metrics=None):
        if self.kept:
            picture = self._draw_kept()
            for backend in runner.visualizer._vis_backends.values():
                # MLflow uses the name as that of a file, whose suffix is the format.
                mlflow = isinstance(backend, MLflowVisBackend)
                name = f'reconstruction_{runner.iter}.png' if mlflow else 'reconstruction'
                backend.add_image(name, picture, step=runner.iter)

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.out_dir:
            self._keep(outputs, batch_idx, len(runner.test_dataloader))

    def after_test_epoch(self, runner, metrics=None):
        if self.kept and self.out_dir:
            path = Path(self.out_dir, 'reconstruction.png')
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(self._draw_kept()).save(path)
            runner.logger.info(f'Wrote {path}')

    @master_only
    def _keep(self, samples: Sequence[BaseDataElement], batch_idx: int, num_batches: int) -> None:
        """Keep pictures of evenly spaced batches, at least ``num_images`` in total.

        Samples are views of their whole batch, which they would keep in the memory of the GPU.
        """
        if self.enable and batch_idx in evenly_spaced(num_batches, self.num_images):
            count = -(-self.num_images // num_batches)
            self.kept += [_column(samples[i]) for i in evenly_spaced(len(samples), count)]

    def _draw_kept(self) -> np.ndarray:
        shown = [self.kept[i] for i in evenly_spaced(len(self.kept), self.num_images)]
        self.kept = []
        return _draw(shown)
