"""The masked loss against mmpretrain's MAE head, whose mask has the same meaning: 1 = masked."""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmpretrain.models import MAEPretrainHead

from finola_mm.functional import block_mask, masked_positions
from finola_mm.heads import MaskedReconstructionHead

P = 16


@pytest.fixture
def batch():
    """Predicted patches of all 4 x 4 positions, images, mask."""
    generator = torch.Generator().manual_seed(0)
    pred = torch.randn(4, 16, 3 * P * P, generator=generator)
    images = torch.randn(4, 3, 64, 64, generator=generator)
    mask = block_mask(torch.tensor([[0, 0], [2, 1], [1, 1], [2, 2]]), (2, 2))
    return pred, images, mask


def mae_head(norm_pix):
    init_default_scope('mmpretrain')
    loss = dict(type='PixelReconstructionLoss', criterion='L2')
    return MAEPretrainHead(loss=loss, norm_pix=norm_pix, patch_size=P)


def mae_order(patches):
    """Pixels of a patch as (channel, row, column) -> as MAE has them, (row, column, channel)."""
    return patches.unflatten(-1, (3, P * P)).transpose(-1, -2).flatten(-2)


@pytest.mark.parametrize('norm_pix', [False, True])
def test_loss_is_that_of_mae(batch, norm_pix):
    pred, images, mask = batch
    oracle = mae_head(norm_pix).loss(mae_order(pred), images, mask.flatten(1).float())
    head = MaskedReconstructionHead(patch_size=P, norm_pix=norm_pix)
    masked = masked_positions(mask)
    loss = head.loss(torch.stack([p[i] for p, i in zip(pred, masked, strict=True)]), images, masked)
    torch.testing.assert_close(loss, oracle)


def test_reconstruct_gives_each_patch_its_mean_and_deviation_back(batch):
    """MAE's target, laid out as an image, comes back as the original."""
    _, images, _ = batch
    target = mae_head(True).construct_target(images)  # (N, L, P*P*3), pixels in MAE's order
    target = mae_head(False).unpatchify(target)
    head = MaskedReconstructionHead(patch_size=P, norm_pix=True)
    torch.testing.assert_close(head.denormalize(target, images), images)
    plain = MaskedReconstructionHead(patch_size=P)
    assert torch.equal(plain.denormalize(target, images), target)


def test_visible_pixels_do_not_count(batch):
    pred, images, mask = batch
    head, masked = MaskedReconstructionHead(patch_size=P), masked_positions(mask)
    images.requires_grad_()
    head.loss(pred[:, :12], images, masked).backward()
    counts = head.pixel_mask(mask).expand_as(images)
    assert (images.grad[~counts] == 0).all()
    assert (images.grad[counts] != 0).all()
