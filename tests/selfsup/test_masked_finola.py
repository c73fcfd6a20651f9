"""Masked FINOLA as a whole: what it may see, what counts, that it is one function of its batch."""

import copy

import pytest
import torch
from mmengine.registry import init_default_scope
from mmpretrain.structures import DataSample

from finola_mm.errors import UserError
from finola_mm.functional import block_mask, masked_positions
from finola_mm.registry import MODELS
from finola_mm.selfsup import MaskedFINOLA
from tests.messages import shows

SIZE, P = 64, 16
OFFSETS = [(0, 0), (1, 2), (2, 1), (2, 2)]


def config(**head):
    return dict(
        type='finola_mm.MaskedFINOLA',
        data_preprocessor=dict(mean=[124.0, 116.0, 104.0], std=[58.0, 57.0, 57.0]),
        backbone=dict(type='finola_mm.MobileFormer', arch='small'),
        neck=dict(type='finola_mm.BlockFINOLANeck', channels=256),
        upsampler=dict(
            type='finola_mm.TransformerUpsampler',
            in_channels=256,
            embed_dim=32,
            depth=2,
            num_heads=4,
        ),
        head=dict(type='finola_mm.MaskedReconstructionHead', **head),
    )


def test_patch_sizes_must_agree():
    init_default_scope('mmpretrain')
    with pytest.raises(UserError, match=shows('head.patch_size=8', '16')):
        MODELS.build(config(patch_size=8))


@pytest.fixture(scope='module')
def calibrated() -> MaskedFINOLA:
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(config())
    calibrate(model)
    return model.eval()


@pytest.fixture
def model(calibrated) -> MaskedFINOLA:
    """A model of the test's own, always the same."""
    torch.manual_seed(5)  # another seed than that of the images: noise is drawn to differ from them
    return copy.deepcopy(calibrated)


def calibrate(model):
    """Give BatchNorm the statistics of some noise, so that eval mode is not degenerate."""
    with torch.no_grad():
        for _ in range(30):
            model.train().backbone(torch.randn(8, 3, SIZE // 2, SIZE // 2))


@pytest.fixture
def images():
    return torch.randn(len(OFFSETS), 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def samples(offsets=OFFSETS):
    return [DataSample(metainfo=dict(block_offset=offset)) for offset in offsets]


def visible_pixels(images):
    mask = block_mask(torch.tensor(OFFSETS), (SIZE // P // 2,) * 2)  # True = masked
    return ~mask.repeat_interleave(P, 1).repeat_interleave(P, 2)[:, None].expand_as(images)


def test_prediction_ignores_masked_pixels(model, images):
    """The encoder sees the visible block and nothing else: noise elsewhere changes no bit."""
    seen = []
    model.backbone.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs[-1]))
    offset = torch.tensor(OFFSETS)
    changed = torch.where(visible_pixels(images), images, torch.randn_like(images))
    predictions = [model.reconstruct(batch, offset) for batch in (images, changed)]
    assert torch.equal(*seen)
    assert torch.equal(*predictions)


def test_prediction_reads_the_visible_pixels(model, images):
    changed = torch.where(visible_pixels(images), torch.randn_like(images), images)
    offset = torch.tensor(OFFSETS)
    assert not torch.allclose(model.reconstruct(images, offset), model.reconstruct(changed, offset))


def test_loss_compares_masked_pixels_only(model, images):
    """The definition: mean squared error of the whole prediction over the masked pixels. With the
    prediction held, the target's visible pixels neither count nor get a gradient.
    """
    offset, mask = model.get_offsets_and_mask(images, samples())
    masked = masked_positions(mask)
    visible = visible_pixels(images)
    error = (model.reconstruct(images, offset) - images)[~visible] ** 2
    torch.testing.assert_close(model.loss(images, samples())['loss'], error.mean())
    pred = model.reconstruct(images, offset, masked).detach()
    target = images.clone().requires_grad_()
    loss = model.head.loss(pred, target, masked)
    loss.backward()
    assert (target.grad[visible] == 0).all() and (target.grad[~visible] != 0).all()
    other = torch.where(visible, torch.randn_like(images), images)
    assert torch.equal(model.head.loss(pred, other, masked), loss)


def test_gradient_reaches_every_part(model, images):
    model.train().loss(images, samples())['loss'].backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_batched_equals_single(model, images):
    batched = model.reconstruct(images, torch.tensor(OFFSETS))
    for i, offset in enumerate(OFFSETS):
        single = model.reconstruct(images[i : i + 1], torch.tensor([offset]))
        torch.testing.assert_close(batched[i : i + 1], single, rtol=1e-4, atol=1e-5)


def test_checkpointing_changes_nothing(model, images):
    plain, lean = model.train(), copy.deepcopy(model)
    lean.backbone.with_cp = True
    losses = [m.loss(images, samples())['loss'] for m in (plain, lean)]
    for loss in losses:
        loss.backward()
    assert torch.equal(*losses)
    for a, b in zip(plain.parameters(), lean.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    for a, b in zip(plain.buffers(), lean.buffers(), strict=True):
        assert torch.equal(a, b)


def test_autocast_is_close_to_float32(model, images):
    exact = model.reconstruct(images, torch.tensor(OFFSETS))
    with torch.autocast('cpu', torch.bfloat16):
        out = model.reconstruct(images, torch.tensor(OFFSETS))
    # 8 bits a product through some 20 layers: the error grows like sqrt(20) * 2^-8 = 1.7 %.
    assert (out - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize('norm_pix', [False, True])
def test_predict_returns_pixels(images, norm_pix):
    init_default_scope('mmpretrain')
    model = MODELS.build(config(norm_pix=norm_pix)).eval()
    raw = torch.randint(0, 256, images.shape, dtype=torch.uint8)
    results = model.val_step(dict(inputs=raw, data_samples=samples()))
    for result, image, offset in zip(results, raw, OFFSETS, strict=True):
        torch.testing.assert_close(result.original, image / 255, rtol=0, atol=1e-6)
        assert result.reconstruction.shape == (3, SIZE, SIZE)
        assert result.mask.shape == (1, SIZE, SIZE)
        assert torch.equal(result.mask[0, ::P, ::P], block_mask(offset, (2, 2))[0])


def test_an_image_that_does_not_divide_is_refused(model):
    with pytest.raises(ValueError, match=shows('72 x 64', 32)):
        model.loss(torch.zeros(1, 3, 72, 64), samples([(0, 0)]))


def test_non_square_images(model):
    images = torch.randn(2, 3, 64, 96)
    assert model.reconstruct(images, torch.tensor([[2, 3], [0, 1]])).shape == images.shape


def test_it_learns_one_batch(model):
    """Sixty steps on four smooth images: the masked error falls far below the start's."""
    coarse = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    images = torch.nn.functional.interpolate(coarse, size=SIZE, mode='bilinear')
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=2e-3)
    losses = []
    for _ in range(60):
        loss = model.loss(images, samples())['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
