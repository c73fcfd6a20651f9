"""Masked FINOLA in its element-wise form, with a visible block that is not a quarter."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from mmpretrain.structures import DataSample

from finola_mm.functional import masked_positions
from finola_mm.registry import MODELS
from finola_mm.selfsup import MaskedFINOLA
from tests.messages import shows

P, SIZE, BLOCK = 16, (64, 80), (3, 2)  # 4 x 5 patches, of which 3 x 2 are visible
OFFSETS = [(0, 0), (1, 3), (0, 2), (1, 1)]


def build(block_size=BLOCK, size=(4, 5), **neck) -> MaskedFINOLA:
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='finola_mm.MaskedFINOLA',
            block_size=block_size,
            data_preprocessor=dict(mean=[124.0, 116.0, 104.0], std=[58.0, 57.0, 57.0]),
            backbone=dict(type='finola_mm.MobileFormer', arch='small'),
            neck={
                **dict(type='finola_mm.FINOLANeck', in_channels=256, channels=64, size=size),
                **neck,
            },
            upsampler=dict(type='finola_mm.PatchUpsampler', in_channels=64),
            head=dict(type='finola_mm.MaskedReconstructionHead'),
        )
    )


@pytest.fixture
def images():
    """Four smooth ones, normalised."""
    coarse = torch.randn(4, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    return F.interpolate(coarse, size=SIZE, mode='bilinear')


def samples(offsets=OFFSETS):
    return [DataSample(metainfo=dict(block_offset=offset)) for offset in offsets]


def visible_pixels(images):
    """True where the encoder may look, by the definition of an offset."""
    visible = torch.zeros_like(images, dtype=torch.bool)
    for one, (row, col) in zip(visible, OFFSETS, strict=True):
        one[:, P * row : P * (row + BLOCK[0]), P * col : P * (col + BLOCK[1])] = True
    return visible


def test_the_encoder_sees_the_block_and_nothing_else(images):
    model, seen = build().eval(), []
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    visible = visible_pixels(images)
    changed = torch.where(visible, images, torch.randn_like(images))
    offset = torch.tensor(OFFSETS)
    assert torch.equal(*[model.reconstruct(batch, offset) for batch in (images, changed)])
    assert seen[0].shape == (4, 3, P * BLOCK[0], P * BLOCK[1])
    for block, image, here in zip(seen[0], images, visible, strict=True):
        assert torch.equal(block.flatten(), image[here])


def test_loss_compares_masked_pixels_only(images):
    """The definition: mean squared error of the whole prediction over the masked pixels. With the
    prediction held, visible pixels get no gradient.
    """
    model, visible = build().eval(), visible_pixels(images)
    offset, mask = model.get_offsets_and_mask(images, samples())
    error = (model.reconstruct(images, offset) - images)[~visible] ** 2
    torch.testing.assert_close(model.loss(images, samples())['loss'], error.mean())
    masked = masked_positions(mask)
    assert masked.shape == (4, 4 * 5 - 3 * 2)
    pred = model.reconstruct(images, offset, masked).detach()
    target = images.clone().requires_grad_()
    model.head.loss(pred, target, masked).backward()
    assert (target.grad[visible] == 0).all() and (target.grad[~visible] != 0).all()


def test_all_goes_through_one_vector_at_the_centre_of_the_block(images):
    model = build().eval()
    out = model.reconstruct(images, torch.tensor(OFFSETS))
    for i, (row, col) in enumerate(OFFSETS):
        top, left = P * row, P * col
        block = images[i : i + 1, :, top : top + P * BLOCK[0], left : left + P * BLOCK[1]]
        q = model.neck.pool(model.backbone(block))  # (1, 1, 64)
        z = model.neck.finola(q[:, 0], (4, 5), (row + 1, col + 1))
        torch.testing.assert_close(out[i : i + 1], model.upsampler(z), rtol=1e-4, atol=1e-5)


def test_gradient_reaches_every_part(images):
    model = build(num_paths=2).train()
    model.loss(images, samples())['loss'].backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_predict_marks_what_is_masked(images):
    raw = torch.randint(0, 256, images.shape, dtype=torch.uint8)
    results = build().eval().val_step(dict(inputs=raw, data_samples=samples()))
    for result, image, visible in zip(results, raw, visible_pixels(images), strict=True):
        torch.testing.assert_close(result.original, image / 255, rtol=0, atol=1e-6)
        assert result.reconstruction.shape == (3, *SIZE)
        assert torch.equal(result.mask[0], ~visible[0])


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(size=8), shows((8, 8), (4, 5), 'neck.size')),
        (dict(block_size=(5, 2)), shows('offset', (5, 2))),
        (dict(block_size=None), shows('64 x 80', 32)),
    ],
)
def test_what_does_not_fit_is_refused(images, options, message):
    with pytest.raises(ValueError, match=message):
        build(**options).loss(images, samples())


def test_block_wise_finola_refuses_a_block_that_is_not_a_quarter(images):
    model = build()
    model.neck = MODELS.build(dict(type='finola_mm.BlockFINOLANeck', channels=256))
    with pytest.raises(ValueError, match=shows('BlockFINOLANeck', (6, 4), (4, 5))):
        model.loss(images, samples([(0, 0)] * 4))


def test_it_learns_one_batch(images):
    """Sixty steps on four smooth images: the masked error falls far below the start's."""
    model = build().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(60):
        loss = model.loss(images, samples())['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
