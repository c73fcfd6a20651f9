"""The encoder's padding mask: what is masked is not read, and a mask of nothing changes nothing."""

import pytest
import torch
import torch.nn.functional as F

from finola_mm.backbones import MobileFormer
from finola_mm.functional import downsample_mask, make_padding_mask
from finola_mm.layers import MobileToFormer

SIZES, SHAPE = [(64, 96), (50, 33)], (64, 96)


def encoder(**kwargs):
    """A small encoder whose tokens matter: by its initialization they hardly steer anything."""
    torch.manual_seed(0)
    kwargs = dict(out_indices=(2, 4)) | kwargs
    model = MobileFormer('small', with_tokens=True, **kwargs).double()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=0.05)
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.1, 0.2)
    return model.eval()


@pytest.fixture
def images():
    """Two images in a batch; mean colour, which is 0, where the second ends."""
    torch.manual_seed(1)
    batch = torch.zeros(2, 3, *SHAPE, dtype=torch.double)
    for image, (h, w) in zip(batch, SIZES, strict=True):
        image[:, :h, :w] = torch.randn(3, h, w)
    return batch


def test_masked_positions_are_not_read():
    """Mobile->Former on a padded map is Mobile->Former on the map cut out of it."""
    torch.manual_seed(0)
    layer = MobileToFormer(6, 8).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    x, tokens = torch.randn(1, 6, 4, 5).double(), torch.randn(1, 3, 8).double()
    padded = F.pad(x, (0, 3, 0, 2), value=1e3)
    mask = make_padding_mask([(4, 5)], (6, 8))
    torch.testing.assert_close(layer(padded, tokens, mask), layer(x, tokens))
    assert (layer(padded, tokens) - layer(x, tokens)).abs().max() > 0.1


@pytest.mark.parametrize('form', ['plain', 'spatial'])
def test_a_mask_of_nothing_changes_nothing(images, form):
    model = encoder(dynamic_relu=form)
    maps, tokens = model(images)
    same, same_tokens = model(images, torch.zeros(2, *SHAPE, dtype=torch.bool))
    for a, b in zip((*maps, tokens), (*same, same_tokens), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize('stride', [1, 2])
def test_every_block_gets_the_mask_of_its_map(images, monkeypatch, stride):
    """As many positions are not padding as the image has alone."""
    seen = []
    forward = MobileToFormer.forward

    def spy(self, x, tokens, padding=None):
        seen.append((tuple(x.shape[2:]), padding))
        return forward(self, x, tokens, padding)

    monkeypatch.setattr(MobileToFormer, 'forward', spy)
    mask = make_padding_mask(SIZES, SHAPE)
    encoder()(images[:, :, ::stride, ::stride], downsample_mask(mask, stride))
    alone = encoder()(images[1:, :, : SIZES[1][0] : stride, : SIZES[1][1] : stride])
    assert len(alone[0]) == 2
    half = len(seen) // 2
    for (shape, padding), (own, none) in zip(seen[:half], seen[half:], strict=True):
        assert padding.shape[1:] == shape and none is None
        assert not padding[0].any()
        assert (~padding[1]).sum() == own[0] * own[1] and not padding[1, : own[0], : own[1]].any()


@pytest.mark.parametrize('form', ['plain', 'spatial'])
@pytest.mark.parametrize('number', [0, 1])
def test_an_image_in_a_padded_batch_is_the_image_alone(images, form, number):
    """To rounding, at every stride and in the tokens, whatever stands in the padding."""
    mask = make_padding_mask(SIZES, SHAPE)
    model = encoder(dynamic_relu=form, out_indices=(0, 1, 2, 3, 4))
    h, w = SIZES[number]
    maps, tokens = model(images.masked_fill(mask[:, None], 50.0), mask)
    alone, own = model(images[number : number + 1, :, :h, :w])
    torch.testing.assert_close(tokens[number], own[0], rtol=0, atol=1e-10)
    for of_batch, of_image in zip(maps, alone, strict=True):
        _, _, rows, columns = of_image.shape
        part = of_batch[number, :, :rows, :columns]
        torch.testing.assert_close(part, of_image[0], rtol=0, atol=1e-10)
    unmasked, _ = model(images)
    if number:
        assert (unmasked[-1][1, :, :rows, :columns] - of_image[0]).norm() > 0.1 * of_image.norm()


def test_recomputed_blocks_take_the_mask_too(images):
    mask = make_padding_mask(SIZES, SHAPE)
    grads = []
    for with_cp in (False, True):
        model = encoder(with_cp=with_cp).train()
        maps, _ = model(images, mask)
        maps[-1].square().mean().backward()
        grads.append(model.tokens.grad)
    torch.testing.assert_close(*grads)
