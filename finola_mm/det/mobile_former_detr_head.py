"""Classes and boxes of the queries: mmdet's DETR head, made safe for runs of weeks.

Paper: arXiv 2305.16319, Section 5: losses, matching and post-processing are DETR's, so they are
mmdet's. The layers too: a linear classifier and a box MLP 256-256-256-4, shared by all blocks.
Changed is what a long run on any data stumbles over:

* a NaN in a prediction makes scipy's matcher raise, without a word on where it came from. Here the
  matcher is given a number in its place; the loss is NaN then, and ``FiniteLossHook`` ends the run
  with the iteration, the learning rates and the images;
* a NaN in a box of the data, or a label beyond the classes, is named with its image;
* under autocast the head stays in float32: a box coordinate of 8 bits is off by 5 pixels in 1333.
"""

import torch
from mmdet.models import DETRHead
from mmdet.structures import SampleList
from torch import Tensor

from ..datasets.validation import AnnotationError
from ..registry import MODELS


@MODELS.register_module()
class MobileFormerDETRHead(DETRHead):
    """mmdet's ``DETRHead``; its other arguments (the width, ``train_cfg``, losses) hold here too.

    Args:
        num_classes (int): Classes of objects.
        bg_cls_weight (float): Weight of "no object" in the classification loss, beside 1 for a
            class. Defaults to 0.1, DETR's.
        loss_cls (dict, optional): Another loss, with its own weights of the classes; by default
            mmdet's ``CrossEntropyLoss``.
        **kwargs: Those of ``DETRHead``.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        bg_cls_weight: float = 0.1,
        loss_cls: dict | None = None,
        **kwargs,
    ):
        if loss_cls is None:  # the parent reads bg_cls_weight for itself alone, not for a subclass
            weights = [1.0] * num_classes + [bg_cls_weight]
            loss_cls = dict(type='CrossEntropyLoss', class_weight=weights, loss_weight=1.0)
        super().__init__(num_classes, loss_cls=loss_cls, **kwargs)
        self.bg_cls_weight = bg_cls_weight

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (B, N, Q, D) to class scores (B, N, Q, classes + 1), boxes (B, N, Q, 4).

        Boxes are centre x, centre y, width, height as shares of the image. Always float32.
        """
        if hidden_states.device.type == 'meta':  # it has no autocast; sizes are counted there
            return super().forward(hidden_states)
        with torch.autocast(hidden_states.device.type, enabled=False):
            return super().forward(hidden_states.float())

    def loss(self, hidden_states: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Queries (B, N, Q, D) to the three losses of every block, ``d{block}.`` but for the last.

        Raises:
            AnnotationError: annotations that are no numbers, or of a class that the head has not.
        """
        for sample in batch_data_samples:
            self._check_annotations(sample)
        return super().loss(hidden_states, batch_data_samples)

    def _check_annotations(self, sample) -> None:
        boxes, labels = sample.gt_instances.bboxes, sample.gt_instances.labels
        if not boxes.isfinite().all():
            raise AnnotationError(
                f'{_name(sample)}: a box of the annotations is not finite: {boxes}'
            )
        if len(labels) and not (0 <= labels.min() and labels.max() < self.num_classes):
            raise AnnotationError(
                f'{_name(sample)}: labels {sorted(set(labels.tolist()))} for a head of num_classes='
                f'{self.num_classes}; set bbox_head.num_classes to the number of classes of the '
                'data set (its metainfo.classes)'
            )

    def _get_targets_single(self, cls_score: Tensor, bbox_pred: Tensor, *args) -> tuple:
        """Match one image. What is predicted is used for the costs only, the loss has its own."""
        return super()._get_targets_single(cls_score.nan_to_num(), bbox_pred.nan_to_num(), *args)


def _name(sample) -> str:
    return sample.get('img_path', f'image {sample.get("img_id", "?")}')
