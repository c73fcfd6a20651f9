"""FINOLA as a whole: its two halves, what predict returns, that it learns."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from mmpretrain.structures import DataSample

from finola_mm.registry import MODELS
from finola_mm.selfsup import FINOLA
from tests.messages import shows

SIZE = 64


def build(**neck) -> FINOLA:
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='finola_mm.FINOLA',
            data_preprocessor=dict(mean=[124.0, 116.0, 104.0], std=[58.0, 57.0, 57.0]),
            backbone=dict(type='finola_mm.MobileFormer', arch='small'),
            neck=dict(type='finola_mm.FINOLANeck', in_channels=256, channels=32, size=8, **neck),
            upsampler=dict(
                type='finola_mm.ConvUpsampler',
                in_channels=32,
                scale=8,
                widths=(32, 16, 16, 8),
                num_groups=4,
            ),
            head=dict(type='finola_mm.ReconstructionHead'),
        )
    )


@pytest.fixture
def images():
    """Four smooth ones, normalised."""
    coarse = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return F.interpolate(coarse, size=SIZE, mode='bilinear')


@pytest.mark.parametrize('paths', [1, 3])
def test_all_goes_through_q(images, paths):
    model = build(num_paths=paths).eval()
    q = model.encode(images)
    assert q.shape == (4, paths, 32)
    restored = model.decode(q)
    assert restored.shape == images.shape
    assert torch.equal(restored, model.reconstruct(images))
    if paths == 1:
        assert torch.equal(model.decode(q[:, 0]), restored)


def test_loss_is_the_mean_squared_error_of_the_whole_image(images):
    model = build().eval()
    error = (model.reconstruct(images) - images).square()
    torch.testing.assert_close(model.loss(images, [])['loss'], error.mean())


@pytest.mark.parametrize(
    'neck',
    [
        dict(num_paths=2),
        dict(step='norm_moving'),
        dict(step='nonlinear'),
        dict(step='repeat'),
        dict(step='repeat_matched'),
    ],
)
def test_gradient_reaches_every_part(images, neck):
    model = build(**neck).train()
    model.loss(images, [])['loss'].backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_from_a_corner_two_matrices_are_idle_and_get_a_zero(images):
    """A zero and not None, which distributed training would wait for."""
    model = build(origin=(0, 0)).train()
    model.loss(images, [])['loss'].backward()
    idle = {name for name, p in model.neck.finola.named_parameters() if not p.grad.any()}
    assert idle == {'A_neg', 'B_neg'}


def test_predict_returns_pixels():
    model = build().eval()
    generator = torch.Generator().manual_seed(2)
    raw = torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    results = model.val_step(dict(inputs=raw, data_samples=[DataSample(), DataSample()]))
    normalised = model.data_preprocessor(dict(inputs=raw, data_samples=[]))['inputs']
    with torch.no_grad():  # as in val_step: with gradients other kernels may run, and round
        restored = model.decode(model.encode(normalised)).double()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([124.0, 116, 104], [58.0, 57, 57]))
    for result, image, pred in zip(results, raw, restored, strict=True):
        torch.testing.assert_close(result.original, image / 255, rtol=0, atol=1e-6)
        expected = ((pred * std + mean) / 255).float()
        torch.testing.assert_close(result.reconstruction, expected, rtol=0, atol=1e-6)
        assert result.mask.shape == (1, SIZE, SIZE) and result.mask.all()


def test_autocast_is_close_to_float32(images):
    model = build().eval()
    exact = model.reconstruct(images)
    with torch.autocast('cpu', torch.bfloat16):
        out = model.reconstruct(images)
    # 8 bits a product through some 30 layers: the error grows like sqrt(30) * 2^-8 = 2.1 %.
    assert (out - exact).norm() < 0.03 * exact.norm()


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match=shows((2, 3, 32, 32), (2, 3, 64, 64))):
        build().loss(torch.zeros(2, 3, 32, 32), [])


def test_it_learns_one_batch(images):
    """Sixty steps on four smooth images: the error falls far below the start's."""
    model = build().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(60):
        loss = model.loss(images, [])['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
