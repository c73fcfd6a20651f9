"""Detect objects with any detector of mmdet; weights are read strictly and safely."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

import mmengine
import numpy as np
import torch
from mmdet.models import BaseDetector
from mmdet.structures import DetDataSample
from mmdet.structures.mask import encode_mask_results
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData

from ..engine import (
    checkpoint_metadata,
    format_other_classes,
    load_weights,
    read_checkpoint,
)
from ..environment import NO_CUDA_OPERATOR
from ..errors import UserError
from .config import CONFIGS, load_config, resolve_config
from .cpu import optimize_for_cpu
from .hub import find_weights
from .images import ImageLike, Source, is_single, iterate_images, read_image
from .inference import load_metainfo


@dataclass(frozen=True, eq=False)
class Detections:
    """The objects found in an image.

    Attributes:
        boxes (np.ndarray): (n, 4) float32, x1, y1, x2, y2 in pixels of the image.
        scores (np.ndarray): (n,) float32, from 0 to 1.
        labels (np.ndarray): (n,) int64, indices of ``classes``.
        classes (tuple[str, ...]): The names of all classes of the detector.
        masks (np.ndarray | None): (n, h, w) bool, of detectors that segment instances.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    masks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def names(self) -> list[str]:
        """The class name of each object."""
        return [self.classes[label] for label in self.labels]

    def above(self, threshold: float) -> 'Detections':
        """Return the objects with a score of at least ``threshold``."""
        kept = self.scores >= threshold
        return Detections(
            self.boxes[kept],
            self.scores[kept],
            self.labels[kept],
            self.classes,
            None if self.masks is None else self.masks[kept],
        )

    def to_dict(self) -> dict[str, list]:
        """Return plain values for JSON under mmdet's names, with ``names`` in addition.

        Masks are COCO's run-length codes.
        """
        values = dict(
            bboxes=self.boxes.tolist(),
            scores=self.scores.tolist(),
            labels=self.labels.tolist(),
            names=self.names,
        )
        if self.masks is not None:
            codes = encode_mask_results(self.masks)
            values['masks'] = [dict(code, counts=code['counts'].decode()) for code in codes]
        return values

    def to_supervision(self) -> Any:
        """Return the objects as ``supervision.Detections``, with ``data['class_name']``.

        Raises:
            UserError: the package supervision is not installed.
        """
        try:
            import supervision  # type: ignore[import-not-found]
        except ImportError:
            raise UserError(
                'supervision is not installed; install it with: python -m pip install supervision'
            ) from None

        return supervision.Detections(
            xyxy=self.boxes,
            confidence=self.scores,
            class_id=self.labels,
            mask=self.masks,
            data=dict(class_name=np.array(self.names, dtype=str)),
        )


class Detector:
    """A trained detector of mmdet, with its test pipeline and class names.

    Every tensor of the model must be in the checkpoint, which is read without running code. The
    class names are those of the config. Image files are read by the config's loader.

    Args:
        cfg (Config): The config of a detector.
        checkpoint (str | Path): Weights, as in ``load_encoder``.

    Attributes:
        model (BaseDetector): The detector in eval mode, on the GPU if there is one. It moves to the
            CPU if it needs CUDA operators with which mmcv was not compiled.
        classes (tuple[str, ...]): The class names.
    """

    def __init__(self, cfg: Config, checkpoint: str | PathLike):
        scope = cfg.get('default_scope', 'mmdet')
        init_default_scope(scope)
        name = cfg.get('model', {}).get('type')
        kind = MODELS.get(name if '.' in name else f'{scope}.{name}') if name else None
        if kind is None or not issubclass(kind, BaseDetector):
            raise UserError(
                f'expected a detector; {checkpoint} has the config {cfg.filename}, whose model is '
                f'{name}'
            )
        file = find_weights(checkpoint)
        model = MODELS.build(cfg.model)
        metadata = load_weights(model, file, allow_unused=False)
        meta = load_metainfo(cfg)
        if other := format_other_classes(metadata, meta['classes']):
            raise UserError(f'{file} {other}')
        self.classes = tuple(meta['classes'])
        # A palette made for other classes may have too few colours.
        if len(meta.get('palette', ())) < len(self.classes):
            meta['palette'] = 'random'
        model.dataset_meta = meta
        self.model: BaseDetector = optimize_for_cpu(model.to(get_device()).eval())
        steps = cfg.test_dataloader.dataset.pipeline
        transforms = Compose(steps).transforms
        (place,) = (
            i
            for i, step in enumerate(steps)
            if step['type'].rpartition('.')[2] == 'LoadImageFromFile'
        )
        self.load = transforms.pop(place)
        self.pipeline = Compose(transforms)
        self.visualizer = DetLocalVisualizer()
        self.visualizer.dataset_meta = meta

    def predict(
        self, source: Source, *, threshold: float = 0.3, batch_size: int = 1
    ) -> Detections | list[Detections]:
        """Detect objects in an image, or in each image of a source.

        Args:
            source: An image: a file, a PIL image or an RGB array (h, w, 3) of uint8. Or several: a
                folder, a video file, the number of a webcam (untried), or an iterable of images.
            threshold (float): The least score. Defaults to 0.3.
            batch_size (int): Images per forward pass. Defaults to 1.

        Returns:
            Detections | list[Detections]: The objects of one image, or a list for several images.

        Raises:
            UserError: an image cannot be read.
        """
        options: dict[str, Any] = dict(threshold=threshold, batch_size=batch_size)
        results = [detections for _, detections in self.stream(source, **options)]
        return results[0] if is_single(source) else results

    def stream(
        self, source: Source, *, threshold: float = 0.3, batch_size: int = 1
    ) -> Iterator[tuple[np.ndarray, Detections]]:
        """Yield each image, as an RGB array, and its objects; for long videos and webcams.

        Arguments are those of ``predict``.
        """
        images = map(self._read, iterate_images(source))
        while batch := list(islice(images, batch_size)):
            for image, detections in zip(batch, self._detect(batch), strict=True):
                yield image, detections.above(threshold)

    def draw(self, image: ImageLike, detections: Detections) -> np.ndarray:
        """Draw boxes, names and scores on an image; return an RGB array (h, w, 3)."""
        sample = DetDataSample()
        sample.pred_instances = InstanceData(
            bboxes=torch.from_numpy(detections.boxes),
            scores=torch.from_numpy(detections.scores),
            labels=torch.from_numpy(detections.labels),
        )
        if detections.masks is not None:
            sample.pred_instances.masks = torch.from_numpy(detections.masks)
        self.visualizer.add_datasample(
            '', self._read(image), sample, draw_gt=False, pred_score_thr=-1
        )
        return self.visualizer.get_image()

    def _read(self, image: ImageLike) -> np.ndarray:
        return read_image(image, lambda path: self.load(dict(img_path=path))['img'])

    @torch.no_grad()
    def _test_step(self, batch: dict) -> list[DetDataSample]:
        return self.model.test_step(batch)

    def _detect(self, images: list[np.ndarray]) -> Iterator[Detections]:
        samples = []
        for i, image in enumerate(images):
            size = image.shape[:2]
            bgr = np.ascontiguousarray(image[..., ::-1])
            samples.append(dict(img=bgr, img_shape=size, ori_shape=size, img_id=i, img_path=''))
        batch = pseudo_collate([*map(self.pipeline, samples)])
        try:
            results = self._test_step(batch)
        except RuntimeError as error:
            if NO_CUDA_OPERATOR not in str(error):
                raise
            warnings.warn(
                f'the detector now runs on the CPU, since mmcv was compiled without CUDA operators '
                f'({str(error).strip()} tools/check/env.py prints how to compile them)',
                stacklevel=1,
            )
            self.model = optimize_for_cpu(self.model.cpu())
            results = self._test_step(batch)
        for result in results:
            found = result.pred_instances.numpy()
            yield Detections(
                found.bboxes.astype(np.float32),
                found.scores.astype(np.float32),
                found.labels.astype(np.int64),
                self.classes,
                found.get('masks'),
            )


def load_detector(
    source: str | PathLike, config: str | PathLike | Config | None = None
) -> Detector:
    """Load a trained detector.

    Args:
        source (str | Path): The name of published weights; a file; a work directory, whose last
            checkpoint is used; an address (``https://``, ``file://``); or the id of a repository on
            the Hugging Face Hub, ``user/repository``.
        config (str | Path | Config, optional): The config of the detector. By default that of the
            published weights, or the one that the run wrote next to the checkpoint.

    Returns:
        Detector: In eval mode, on the GPU if there is one.

    Raises:
        UserError: the config is not found, or is not that of a detector.
        CheckpointError: the checkpoint is unreadable or unsafe, or does not fit the config.
    """
    if not isinstance(config, Config):
        config = load_config(str(config or find_config(source)))
    return Detector(config, source)


def find_config(source: str | PathLike) -> Path:
    """Return the config of published weights, or the one in the folder of a run's checkpoint.

    Raises:
        UserError: there is none.
    """
    file = Path(find_weights(source))
    published = file.stem.rpartition('-')[0]  # without the hash
    for model in mmengine.load(CONFIGS / 'metafile.yml')['Models']:
        if published and model['Weights'] == published:
            return resolve_config(model['Config'])
    run = checkpoint_metadata(read_checkpoint(file)).get('source')
    if run and (file.parent / f'{run}.py').is_file():
        return file.parent / f'{run}.py'
    raise UserError(
        f'{file} is neither published by this project nor in the work directory of a run of '
        'tools/train.py with its config; pass the config: load_detector(FILE, CONFIG)'
    )
