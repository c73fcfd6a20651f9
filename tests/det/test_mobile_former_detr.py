"""The detector as mmdet calls it: losses, gradients, padding, predictions."""

import copy

import pytest
import torch
from mmengine.model import BaseModel

from tests.messages import shows

from .conftest import detector_config, sample


def test_losses_of_every_block(build, batch):
    model = build()
    losses = model(*batch, mode='loss')
    names = {
        f'{block}loss_{kind}'
        for block in ('', 'd0.', 'd1.', 'd2.')
        for kind in ('cls', 'bbox', 'iou')
    }
    assert set(losses) == names
    assert all(loss.isfinite() for loss in losses.values())
    torch.testing.assert_close(model.parse_losses(losses), BaseModel.parse_losses(model, losses))


@pytest.mark.parametrize('frozen', [True, False])
def test_gradients_reach_what_is_trained_and_nothing_else(build, batch, frozen):
    model = build(frozen=frozen).train()
    sum(model(*batch, mode='loss').values()).backward()
    for name, parameter in model.named_parameters():
        if frozen and name.startswith('backbone'):
            assert not parameter.requires_grad and parameter.grad is None, name
        else:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_a_frozen_encoder_keeps_weights_statistics_and_no_activations(build, batch):
    model = build().train()
    before = copy.deepcopy(model.backbone.state_dict())
    decoder_before = copy.deepcopy(model.decoder.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        sum(model(*batch, mode='loss').values()).backward()
        optimizer.step()
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, before[key]), key
    moved = [
        key
        for key, value in model.decoder.state_dict().items()
        if not torch.equal(value, decoder_before[key])
    ]
    assert len(moved) == len(decoder_before)
    assert all(feat.grad_fn is None for feat in model.extract_feat(batch[0]))


def test_images_without_objects_teach_no_boxes(build, batch):
    images, samples = batch
    empty = [sample(s.img_shape, [], [], (70, 96)) for s in samples]
    model = build().train()
    losses = model(images, empty, mode='loss')
    for name, loss in losses.items():
        assert loss.isfinite()
        assert (loss == 0) == ('cls' not in name), name
    sum(losses.values()).backward()
    assert model.bbox_head.fc_cls.weight.grad.abs().max() > 0
    assert model.bbox_head.fc_reg.weight.grad.abs().max() == 0


def test_more_objects_than_queries(build, batch):
    images, samples = batch
    boxes = [(i, i, i + 20, i + 15) for i in range(20)]
    samples[0] = sample((70, 96), boxes, [i % 12 for i in range(20)], (70, 96))
    losses = build()(images, samples, mode='loss')
    assert all(loss.isfinite() for loss in losses.values())


def predicted(model, images, samples):
    with torch.no_grad():
        results = model.eval().predict(images, copy.deepcopy(samples))
    return [result.pred_instances for result in results]


def test_predictions(build, batch):
    images, samples = batch
    samples[1].set_metainfo(dict(scale_factor=(0.5, 0.5)))
    model = build()
    results = predicted(model, images, samples)
    for result, s in zip(results, samples, strict=True):
        assert len(result.scores) == 8
        assert (result.scores.diff() <= 0).all() and (0 <= result.labels).all()
        assert (result.labels < 12).all()
        h, w = s.img_shape
        scale = 1 / s.scale_factor[0]
        assert (result.bboxes[:, 0::2] <= w * scale).all() and (result.bboxes >= 0).all()
        assert (result.bboxes[:, 1::2] <= h * scale).all()
    with torch.no_grad():  # the very scores and boxes of the last block
        scores, boxes = model(images, samples, mode='tensor')
    best, _ = scores[-1, 0].softmax(-1)[:, :-1].max(-1)
    torch.testing.assert_close(results[0].scores, best.sort(descending=True).values)
    cx, cy, w, h = boxes[-1, 0, best.argmax()] * torch.tensor([96, 70, 96, 70])
    corner = torch.stack([cx - w / 2, cy - h / 2]).clamp(min=0)
    torch.testing.assert_close(results[0].bboxes[0, :2], corner)


def test_permuting_a_batch_permutes_its_detections(build, batch):
    images, samples = batch
    model, order = build(), [2, 0, 1]
    expected = predicted(model, images, samples)
    got = predicted(model, images[order], [samples[i] for i in order])
    for i, result in zip(order, got, strict=True):
        torch.testing.assert_close(result.scores, expected[i].scores, atol=1e-4, rtol=1e-5)
        # Detections whose scores differ by less than the rounding may change places.
        ours, theirs = rows(result), rows(expected[i])  # (8, 6)
        equal = (ours[:, None] - theirs).abs() <= 1e-4 + 1e-5 * theirs.abs()
        pairs = equal.all(2)  # (8, 8)
        assert pairs.any(0).all() and pairs.any(1).all()


def rows(result):
    """Score, label and box (n, 6) of each detection."""
    return torch.cat([result.scores[:, None], result.labels[:, None], result.bboxes], dim=1)


def test_the_padding_of_features_changes_no_detection(build, batch):
    """What the encoder makes of padding, replaced by anything."""
    images, samples = batch
    model = build().eval()
    mask = model.padding_mask(images, samples)
    with torch.no_grad():
        expected = model(images, samples, mode='tensor')
        feats = model.extract_feat(images, mask)
        for junk in (1e4, float('nan')):
            spoiled = [
                feat.masked_fill(mask[:, None, ::stride, ::stride], junk)
                for feat, stride in zip(feats, (8, 16), strict=True)
            ]
            got = model.bbox_head(model.decoder(spoiled, mask[:, ::8, ::8]))
            for a, b in zip(got, expected, strict=True):
                torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_without_padding_there_is_no_mask(build, batch):
    images, samples = batch
    model = build()
    assert model.padding_mask(images[:1], samples[:1]) is None
    assert model.padding_mask(images, None) is None
    assert model.padding_mask(images, samples).shape == (3, 70, 96)


@pytest.mark.parametrize('size', [(32, 32), (33, 47), (65, 40)])
def test_odd_sizes(build, size):
    images = torch.randn(2, 3, *size)
    samples = [sample(size, [(1, 1, 20, 20)], [1], size)] * 2
    model = build()
    assert all(loss.isfinite() for loss in model(images, samples, mode='loss').values())
    assert len(predicted(model, images, samples)) == 2


def test_more_detections_than_queries_are_refused(build):
    config = detector_config()
    config.test_cfg = dict(max_per_img=100)
    with pytest.raises(ValueError, match=shows('max_per_img', 100, 'num_queries', 8)):
        build(config)


def test_by_default_every_query_is_a_detection(build, batch):
    config = detector_config()
    config.test_cfg = None
    assert len(predicted(build(config), *batch)[0].scores) == 8


@pytest.mark.parametrize('classes', [1, 80, 365])
def test_any_number_of_classes(build, batch, classes):
    config = detector_config()
    config.bbox_head.num_classes = classes
    images, samples = batch
    for s in samples:
        s.gt_instances.labels %= classes
    model = build(config)
    assert all(loss.isfinite() for loss in model(images, samples, mode='loss').values())
    assert model(images, samples, mode='tensor')[0].shape == (4, 3, 8, classes + 1)


@pytest.mark.parametrize('with_cp', [False, True])
def test_bfloat16(build, batch, with_cp):
    """What --amp does; boxes and matching stay in float32."""
    model = build(frozen=False).train()
    model.backbone.with_cp = with_cp
    expected = sum(model(*batch, mode='loss').values())
    with torch.autocast('cpu', torch.bfloat16):
        loss = sum(model(*batch, mode='loss').values())
    loss.backward()
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=0.05)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
