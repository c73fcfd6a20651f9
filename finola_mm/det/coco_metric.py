"""COCO's average precision of the images that were evaluated."""

from unittest import mock

import numpy as np
from mmdet.evaluation import CocoMetric as MMDetCocoMetric

from ..registry import METRICS


@METRICS.register_module()
class CocoMetric(MMDetCocoMetric):
    """mmdet's ``CocoMetric``, corrected where its AP would be too low.

    * Objects of images that were not evaluated do not count as missed: with the data set's
      ``indices``, the AP is that of the subset.
    * Annotation ids do not matter. pycocotools never counts the object with id 0 as found.
    * An image that was evaluated several times counts once.

    Args:
        faster (bool): Match and count with the package faster-coco-eval, whose AP is the same.
            Defaults to False.
        *args, **kwargs: Arguments of mmdet's ``CocoMetric``.
    """

    def __init__(self, *args, faster: bool = False, **kwargs):
        super().__init__(*args, **kwargs)
        self.evaluator = None
        if faster:
            from faster_coco_eval import COCOeval_faster

            self.evaluator = COCOeval_faster
        if self._coco_api is None:  # the labels come with the images
            return
        for number, annotation in enumerate(self._coco_api.dataset.get('annotations', []), 1):
            annotation['id'] = number
        for image in self._coco_api.dataset['images']:  # masks need integers
            image.update(width=int(image['width']), height=int(image['height']))
        self._coco_api.createIndex()

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the metrics from (ground truth, prediction) of the images of all ranks."""
        by_image = {prediction['img_id']: (truth, prediction) for truth, prediction in results}
        # With numbers, NumPy would round large ids, and the images would be lost.
        self.img_ids = np.array(list(by_image), object)
        if self.evaluator is None:
            return super().compute_metrics(list(by_image.values()))
        # mmdet's metric offers no other way to choose the evaluator.
        with mock.patch('mmdet.evaluation.metrics.coco_metric.COCOeval', self.evaluator):
            return super().compute_metrics(list(by_image.values()))
