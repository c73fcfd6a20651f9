"""The masked loss against mmpretrain's MAE head, whose mask has the same meaning: 1 = masked."""

import pytest
import torch
from mmpretrain.models import MAEPretrainHead

from finola_mm.functional import block_mask
from finola_mm.heads import MaskedReconstructionHead

P = 16


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    images, pred = torch.randn(2, 4, 3, 64, 64, generator=generator)
    mask = block_mask(torch.tensor([[0, 0], [2, 1], [1, 1], [2, 2]]), (2, 2))
    return pred, images, mask


@pytest.mark.parametrize('norm_pix', [False, True])
def test_loss_is_that_of_mae(batch, norm_pix):
    pred, images, mask = batch
    mae = MAEPretrainHead(
        loss=dict(type='PixelReconstructionLoss', criterion='L2'), norm_pix=norm_pix, patch_size=P
    )
    oracle = mae.loss(mae.patchify(pred), images, mask.flatten(1).float())
    loss = MaskedReconstructionHead(patch_size=P, norm_pix=norm_pix).loss(pred, images, mask)
    torch.testing.assert_close(loss, oracle)


@pytest.mark.parametrize('norm_pix', [False, True])
def test_reconstruct_undoes_the_target(batch, norm_pix):
    _, images, _ = batch
    head = MaskedReconstructionHead(patch_size=P, norm_pix=norm_pix)
    torch.testing.assert_close(head.reconstruct(head.target(images), images), images)


def test_visible_pixels_do_not_count(batch):
    pred, images, mask = batch
    head = MaskedReconstructionHead(patch_size=P)
    visible = ~head.pixel_mask(mask).expand_as(images)
    changed = torch.where(visible, images + 100, images)
    assert torch.equal(head.loss(pred, images, mask), head.loss(pred, changed, mask))
    pred.requires_grad_()
    head.loss(pred, images, mask).backward()
    assert (pred.grad[visible] == 0).all()
    assert (pred.grad[~visible] != 0).all()
