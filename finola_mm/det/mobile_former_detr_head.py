"""The detection head: mmdet's DETR head with one matching and one loss for all blocks.

Paper: arXiv 2305.16319, Section 5. Losses, matching and post-processing are DETR's, in mmdet's
implementation. The head consists of a linear classifier and a box MLP 256-256-256-4, shared by all
blocks. Four details differ from mmdet:

* mmdet matches each image of each block on the GPU and waits for it several times. Here the
  predictions of all blocks and images are copied to the CPU once, matched there with mmdet's costs,
  and the losses of all blocks are computed together. They equal mmdet's up to rounding.
* For a NaN prediction, scipy's matcher raises an error without naming the cause. Here the matcher
  receives a finite number instead; the loss is then NaN, and ``FiniteLossHook`` stops the run and
  reports the iteration, the learning rates and the images.
* NaN in an annotated box, or a label outside the valid range, is reported with its image.
* Under autocast the head stays in float32: a box coordinate in bfloat16 (8 significant bits) can be
  off by up to 5 pixels in 1333.

Legend: B blocks of the decoder, N images, Q queries; C outputs of the classifier.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet.models import DETRHead
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, bbox_xyxy_to_cxcywh
from mmdet.utils import reduce_mean
from mmengine.structures import InstanceData
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..errors import UserError
from ..registry import MODELS


class Targets(NamedTuple):
    """The matched objects of every query."""

    labels: Tensor  # (B, N, Q) long; number of classes = no object
    boxes: Tensor  # (B, N, Q, 4) centre x, centre y, width, height, relative; 0 = no object
    corners: Tensor  # (B, N, Q, 4) left, top, right, bottom in pixels; 0 = no object
    matched: Tensor  # (B, N, Q) float32; 1 = object, 0 = no object
    scale: Tensor  # (N, 1, 4) width, height, width, height of the images in pixels


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

    def loss_by_feat(
        self,
        all_layers_cls_scores: Tensor,
        all_layers_bbox_preds: Tensor,
        batch_gt_instances: Sequence[InstanceData],
        batch_img_metas: Sequence[dict],
        batch_gt_instances_ignore: None = None,
    ) -> dict[str, Tensor]:
        """Class scores (B, N, Q, C) and boxes (B, N, Q, 4) -> three losses per block.

        The losses of the last block are named ``loss_cls``, ``loss_bbox`` and ``loss_iou``; those
        of the other blocks have the prefix ``d{i}.``.

        Raises:
            UserError: an annotated box is not finite, or a label exceeds the head's classes.
        """
        scores, boxes = all_layers_cls_scores, all_layers_bbox_preds
        targets = self.match(scores, boxes, batch_gt_instances, batch_img_metas)
        num_matched = int(targets.matched[0].sum())  # equal in all blocks
        targets = Targets(*(t.to(scores.device, non_blocking=True) for t in targets))

        corners = bbox_cxcywh_to_xyxy(boxes) * targets.scale
        one = dict(reduction_override='none')  # one loss per query
        loss_cls = self.loss_cls(scores.flatten(0, 2), targets.labels.flatten(), **one)
        loss_bbox = self.loss_bbox(boxes, targets.boxes, **one) * targets.matched[..., None]
        loss_iou = self.loss_iou(corners.flatten(0, 2), targets.corners.flatten(0, 2), **one)
        loss_iou = loss_iou * targets.matched.flatten()

        num_unmatched = targets.matched[0].numel() - num_matched
        weighted = scores.new_full((), num_matched + num_unmatched * self.bg_cls_weight)
        if self.sync_cls_avg_factor:
            weighted = reduce_mean(weighted)
        num_boxes = reduce_mean(scores.new_full((), num_matched)).clamp(min=1)
        sums = [loss.reshape(len(scores), -1).sum(1) for loss in (loss_cls, loss_bbox, loss_iou)]
        averages = [weighted.clamp(min=1), num_boxes, num_boxes]
        names = ('loss_cls', 'loss_bbox', 'loss_iou')
        losses = torch.stack([s / a for s, a in zip(sums, averages, strict=True)], 1)  # (B, 3)
        prefixes = [*(f'd{i}.' for i in range(len(scores) - 1)), '']
        keys = [prefix + name for prefix in prefixes for name in names]
        return dict(zip(keys, losses.flatten().unbind(), strict=True))

    @torch.no_grad()
    def match(
        self,
        scores: Tensor,
        boxes: Tensor,
        gt_instances: Sequence[InstanceData],
        img_metas: Sequence[dict],
    ) -> Targets:
        """Match scores (B, N, Q, C) and boxes (B, N, Q, 4) with the objects, on the CPU.

        NaN is replaced for the matching only.
        """
        gt_boxes = [gt.bboxes for gt in gt_instances]
        gt_labels = [gt.labels for gt in gt_instances]
        scores, boxes, *truth = _to_cpu([scores, boxes, *gt_boxes, *gt_labels])
        scores, boxes = scores.nan_to_num(), boxes.nan_to_num()
        sizes = [meta['img_shape'][:2] for meta in img_metas]
        targets = Targets(
            labels=torch.full(scores.shape[:3], self.num_classes),
            boxes=torch.zeros_like(boxes),
            corners=torch.zeros_like(boxes),
            matched=torch.zeros(scores.shape[:3]),
            scale=torch.tensor([[[w, h, w, h]] for h, w in sizes], dtype=boxes.dtype),
        )
        for i, meta in enumerate(img_metas):
            gt = InstanceData(bboxes=truth[i], labels=truth[i + len(img_metas)])
            self._check_annotations(gt, meta)
            if not len(gt):
                continue
            gt.labels = gt.labels.long()
            scale = targets.scale[i]
            relative = bbox_xyxy_to_cxcywh(gt.bboxes / scale)
            corners = bbox_cxcywh_to_xyxy(boxes[:, i]) * scale  # (B, Q, 4)
            pred = InstanceData(scores=scores[:, i].flatten(0, 1), bboxes=corners.flatten(0, 1))
            cost = sum(cost(pred, gt, meta) for cost in self.assigner.match_costs)  # (B * Q, k)
            for block, costs in enumerate(cost.view(*corners.shape[:2], -1).numpy()):
                queries, objects = map(torch.from_numpy, linear_sum_assignment(costs))
                targets.labels[block, i, queries] = gt.labels[objects]
                targets.boxes[block, i, queries] = relative[objects]
                targets.corners[block, i, queries] = gt.bboxes[objects]
                targets.matched[block, i, queries] = 1
        return targets

    def _check_annotations(self, gt: InstanceData, meta: dict) -> None:
        image = meta.get('img_path', f'image {meta.get("img_id", "?")}')
        if not gt.bboxes.isfinite().all():
            raise UserError(
                f'{image}: boxes must be finite, got {gt.bboxes.tolist()}. Fix the annotations'
            )
        labels = sorted(set(gt.labels.int().tolist()))
        if labels and not 0 <= labels[0] <= labels[-1] < self.num_classes:
            raise UserError(
                f'{image}: labels must be below num_classes={self.num_classes} of the head, got '
                f'{labels}. Set bbox_head.num_classes to the number of classes of the data set '
                '(its metainfo.classes)'
            )


def _to_cpu(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copy tensors to the CPU as float32, in one transfer."""
    flat = torch.cat([tensor.flatten().float() for tensor in tensors]).cpu()
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
