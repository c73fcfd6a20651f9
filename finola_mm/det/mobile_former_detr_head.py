"""The detection head: mmdet's DETR head with checks for long runs.

Paper: arXiv 2305.16319, Section 5. Losses, matching and post-processing are DETR's, in mmdet's
implementation. The head consists of a linear classifier and a box MLP 256-256-256-4, shared by all
blocks. Three details differ from mmdet:

* For a NaN prediction, scipy's matcher raises an error without naming the cause. Here the matcher
  receives a finite number instead; the loss is then NaN, and ``FiniteLossHook`` stops the run and
  reports the iteration, the learning rates and the images.
* NaN in an annotated box, or a label outside the valid range, is reported with its image.
* Under autocast the head stays in float32: a box coordinate in bfloat16 (8 significant bits) can be
  off by up to 5 pixels in 1333.
"""

import torch
from mmdet.models import DETRHead
from mmdet.structures import SampleList
from torch import Tensor

from ..errors import UserError
from ..registry import MODELS


@MODELS.register_module()
class MobileFormerDETRHead(DETRHead):
    """mmdet's ``DETRHead``; its other arguments (width, ``train_cfg``, losses) are passed on.

    Args:
        num_classes (int): Number of object classes.
        bg_cls_weight (float): Weight of "no object" in the classification loss, relative to 1 for
            each class. Defaults to 0.1, as in DETR.
        loss_cls (dict, optional): Another loss, with its own class weights; by default mmdet's
            ``CrossEntropyLoss``.
        **kwargs: Arguments of ``DETRHead``.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        bg_cls_weight: float = 0.1,
        loss_cls: dict | None = None,
        **kwargs,
    ):
        if loss_cls is None:  # the parent ignores bg_cls_weight in subclasses
            weights = [1.0] * num_classes + [bg_cls_weight]
            loss_cls = dict(type='CrossEntropyLoss', class_weight=weights, loss_weight=1.0)
        super().__init__(num_classes, loss_cls=loss_cls, **kwargs)
        self.bg_cls_weight = bg_cls_weight

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (B, N, Q, D) -> class scores (B, N, Q, classes + 1) and boxes (B, N, Q, 4).

        Boxes are centre x, centre y, width, height, relative to the image. Always float32.
        """
        if hidden_states.device.type == 'meta':  # used to count sizes; does not support autocast
            return super().forward(hidden_states)
        with torch.autocast(hidden_states.device.type, enabled=False):
            return super().forward(hidden_states.float())

    def loss(self, hidden_states: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Queries (B, N, Q, D) -> three losses per block, with prefix ``d{i}.`` except the last.

        Raises:
            UserError: an annotated box is not finite, or a label exceeds the head's classes.
        """
        for sample in batch_data_samples:
            self._check_annotations(sample)
        return super().loss(hidden_states, batch_data_samples)

    def _check_annotations(self, sample) -> None:
        boxes, labels = sample.gt_instances.bboxes, sample.gt_instances.labels
        if not boxes.isfinite().all():
            raise UserError(
                f'{_name(sample)}: boxes must be finite, got {boxes.tolist()}. Fix the annotations'
            )
        if len(labels) and not (0 <= labels.min() and labels.max() < self.num_classes):
            raise UserError(
                f'{_name(sample)}: labels must be below num_classes={self.num_classes} of the '
                f'head, got {sorted(set(labels.tolist()))}. Set bbox_head.num_classes to the '
                'number of classes of the data set (its metainfo.classes)'
            )

    def _get_targets_single(self, cls_score: Tensor, bbox_pred: Tensor, *args) -> tuple:
        """Match one image with finite costs; the loss still uses the original prediction."""
        return super()._get_targets_single(cls_score.nan_to_num(), bbox_pred.nan_to_num(), *args)


def _name(sample) -> str:
    return sample.get('img_path', f'image {sample.get("img_id", "?")}')
