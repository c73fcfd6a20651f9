"""The head against DETR's definitions, and what it does with numbers that are none."""

import itertools
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from mmdet.models import DETRHead
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from torchvision.ops import box_convert, generalized_box_iou

from finola_mm.errors import UserError
from tests.messages import shows

from .conftest import detector_config, sample

SHAPE = (40, 60)


@pytest.fixture
def head():
    init_default_scope('mmdet')
    torch.manual_seed(0)
    config = detector_config()
    return MODELS.build(
        dict(config.bbox_head, embed_dims=16, train_cfg=config.train_cfg, test_cfg=config.test_cfg)
    )


def objects(boxes=((4, 6, 30, 30), (20, 2, 50, 39)), labels=(3, 7)):
    return [sample(SHAPE, boxes, labels, SHAPE, 'seen.jpg')]


def test_the_losses_are_detrs(head):
    """By trying every matching: costs class 1, L1 5, GIoU 2; no-object weight 0.1."""
    queries = torch.randn(1, 1, 5, 16)
    scores, boxes = (x[0, 0].detach() for x in head(queries))
    (target,) = objects()
    labels = target.gt_instances.labels
    scale = torch.tensor([60, 40, 60, 40])
    truth = target.gt_instances.bboxes / scale
    corners = box_convert(boxes, 'cxcywh', 'xyxy')
    giou = generalized_box_iou(corners * scale, truth * scale)
    l1 = (boxes[:, None] - box_convert(truth, 'xyxy', 'cxcywh')).abs().sum(-1)
    cost = -scores.softmax(-1)[:, labels] + 5 * l1 - 2 * giou
    first, second = min(
        itertools.permutations(range(5), 2), key=lambda m: float(cost[m[0], 0] + cost[m[1], 1])
    )
    wanted = torch.full((5,), 12)
    wanted[first], wanted[second] = labels
    weights = torch.where(wanted == 12, 0.1, 1.0)
    entropy = F.cross_entropy(scores, wanted, reduction='none')
    losses = head.loss(queries, objects())
    expected = dict(
        loss_cls=(weights * entropy).sum() / weights.sum(),
        loss_bbox=5 * (l1[first, 0] + l1[second, 1]) / 2,
        loss_iou=2 * (2 - giou[first, 0] - giou[second, 1]) / 2,
    )
    assert set(losses) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)


def test_its_layers_and_losses_are_mmdets(head):
    """The parent, set up by mmdet's own config of DETR, gives the same numbers."""
    config = detector_config()
    theirs = DETRHead(12, embed_dims=16, train_cfg=config.train_cfg, test_cfg=config.test_cfg)
    theirs.load_state_dict(head.state_dict())
    queries = torch.randn(2, 1, 5, 16)
    ours, others = head.loss(queries, objects()), theirs.loss(queries, objects())
    assert ours.keys() == others.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, others[name])


SIZES = [(40, 60), (64, 50), (33, 71), (70, 96)]


def crowd_of(count, size):
    """``count`` random boxes inside an image of ``size``, and their labels."""
    corners = torch.rand(count, 2, 2) * torch.tensor([size[1], size[0]])
    boxes = torch.cat([corners.amin(1), corners.amax(1) + 0.5], 1)
    return boxes.tolist(), torch.randint(12, (count,)).tolist()


@pytest.mark.parametrize(
    'counts',
    [(3, 1, 5, 2), (0, 4, 0, 1), (0, 0, 0, 0), (9, 5, 6, 30)],
    ids=['random', 'images without objects', 'no objects', 'more objects than queries'],
)
@pytest.mark.parametrize('blocks', [1, 4])
@pytest.mark.parametrize('sync', [False, True])
def test_losses_and_gradients_equal_mmdets(head, counts, blocks, sync):
    """Which matches each image of each block on its own."""
    head.sync_cls_avg_factor = sync
    samples = [
        sample(size, *crowd_of(count, size), (70, 96))
        for count, size in zip(counts, SIZES, strict=True)
    ]
    start = torch.randn(blocks, len(samples), 5, 16)
    results = []
    for compute in (head.loss_by_feat, partial(DETRHead.loss_by_feat, head)):
        queries = start.clone().requires_grad_()
        losses = compute(
            *head(queries), [s.gt_instances for s in samples], [s.metainfo for s in samples]
        )
        head.zero_grad()
        sum(losses.values()).backward()
        losses = {name: loss.squeeze() for name, loss in losses.items()}  # mmdet: (1,) with sync
        results.append((losses, [queries.grad, *(p.grad for p in head.parameters())]))
    (losses, gradients), (expected, expected_gradients) = results
    assert len(losses) == 3 * blocks
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(gradients, expected_gradients)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_nan_ends_in_the_loss_and_not_in_the_matcher(head, value):
    queries = torch.randn(1, 2, 5, 16)
    queries[0, 1, 2, 3] = value
    samples = objects() + objects()
    losses = head.loss(queries, samples)
    assert not all(loss.isfinite() for loss in losses.values())
    parent = super(type(head), head)  # what mmdet does: scipy refuses the costs
    scores, boxes = parent.forward(queries)
    with pytest.raises(ValueError, match='invalid numeric entries'):
        DETRHead._get_targets_single(
            head, scores[0, 1], boxes[0, 1], samples[1].gt_instances, samples[1].metainfo
        )


def test_only_the_block_with_a_nan_has_a_nan_loss(head):
    queries = torch.randn(3, 1, 5, 16)
    queries[1] = float('nan')
    losses = head.loss(queries, objects())
    spoiled = {name for name, loss in losses.items() if not loss.isfinite()}
    assert spoiled == {'d1.loss_cls', 'd1.loss_bbox', 'd1.loss_iou'}


def test_a_box_that_is_no_number_is_named(head):
    spoiled = objects(boxes=((4, 6, 30, 30), (20, 2, float('nan'), 39)))
    with pytest.raises(UserError, match=shows('seen.jpg', 'nan')):
        head.loss(torch.randn(1, 1, 5, 16), spoiled)


@pytest.mark.parametrize('labels', [(3, 12), (-1, 0)])
def test_a_label_beyond_the_classes_is_named(head, labels):
    with pytest.raises(UserError, match=shows('seen.jpg', list(labels), 'num_classes=12')):
        head.loss(torch.randn(1, 1, 5, 16), objects(labels=labels))


def test_crowds_are_not_matched(head):
    """mmdet hands them on as ignored_instances, beside the objects."""
    queries, (crowd,) = torch.randn(1, 1, 5, 16), objects()
    crowd.ignored_instances = objects()[0].gt_instances
    with_crowd = head.loss(queries, [crowd])
    for name, value in head.loss(queries, objects()).items():
        assert torch.equal(value, with_crowd[name])


def test_boxes_stay_in_float32_under_autocast(head):
    queries = torch.randn(1, 1, 5, 16)
    expected = head(queries)
    with torch.autocast('cpu', torch.bfloat16):
        got = head(queries)
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)
