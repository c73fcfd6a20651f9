"""Padding masks and upsampling against plain loops, and a padded image against the same alone."""

import math

import pytest
import torch
import torch.nn.functional as F

from finola_mm.functional import (
    downsample_mask,
    make_padding_mask,
    upsample_2x,
    zero_padding,
)
from tests.messages import shows

SIZES = [(7, 5), (4, 9), (3, 3)]
SHAPE = (7, 9)


def test_mask_marks_what_no_image_covers():
    mask = make_padding_mask(SIZES, SHAPE)
    for n, (h, w) in enumerate(SIZES):
        for row in range(SHAPE[0]):
            for column in range(SHAPE[1]):
                assert mask[n, row, column] == (row >= h or column >= w)


def test_no_mask_without_padding():
    assert make_padding_mask([(7, 9), (7, 9)], (7, 9)) is None
    assert downsample_mask(None) is None
    x = torch.randn(1, 2, 3, 4)
    assert zero_padding(x, None) is x


@pytest.mark.parametrize('size', [(8, 9), (0, 3)])
def test_impossible_images_are_refused(size):
    with pytest.raises(ValueError, match=shows(f'{size[0]} x {size[1]}', '7 x 9')):
        make_padding_mask([size], SHAPE)


@pytest.mark.parametrize('stride', [2, 4, 8])
def test_a_padded_image_keeps_the_map_that_it_has_alone(stride):
    """A convolution of that stride makes ceil(h / stride) rows of h: as many are not padding."""
    mask = downsample_mask(make_padding_mask(SIZES, SHAPE), stride)
    for n, (h, w) in enumerate(SIZES):
        expected = (math.ceil(h / stride), math.ceil(w / stride))
        valid = ~mask[n]
        assert (valid.any(1).sum(), valid.any(0).sum()) == expected
        assert valid.sum() == expected[0] * expected[1]
    twice = make_padding_mask(SIZES, SHAPE)
    for _ in range(int(math.log2(stride))):
        twice = downsample_mask(twice)
    assert torch.equal(twice, mask)


def test_cleared_whatever_stood_there():
    x = torch.ones(3, 2, *SHAPE)
    mask = make_padding_mask(SIZES, SHAPE)
    x[mask[:, None].expand_as(x)] = float('nan')
    assert torch.equal(zero_padding(x, mask), (~mask)[:, None].expand_as(x).float())


def doubled_by_hand(x, size):
    """(h, w) to ``size``: each new position lies a quarter beside an old one."""

    def weights(i, length):
        old, beside = i // 2, i // 2 + (1 if i % 2 else -1)
        return [(old, 0.75), (min(max(beside, 0), length - 1), 0.25)]

    y = torch.zeros(size, dtype=x.dtype)
    for i in range(size[0]):
        for j in range(size[1]):
            for row, a in weights(i, x.shape[0]):
                for column, b in weights(j, x.shape[1]):
                    y[i, j] += a * b * x[row, column]
    return y


@pytest.mark.parametrize('size', [(6, 8), (5, 8), (5, 7)])
def test_doubling_by_hand(size):
    x = torch.randn(1, 1, 3, 4, dtype=torch.double)
    torch.testing.assert_close(upsample_2x(x, size)[0, 0], doubled_by_hand(x[0, 0], size))


def test_doubling_a_padded_image_is_doubling_it_alone():
    alone = [torch.randn(1, 2, h, w, dtype=torch.double) for h, w in SIZES]
    padded = torch.cat(
        [F.pad(x, (0, SHAPE[1] - x.shape[3], 0, SHAPE[0] - x.shape[2]), value=1e9) for x in alone]
    )
    y = upsample_2x(padded, (14, 17), make_padding_mask(SIZES, SHAPE))
    assert y.isfinite().all()
    for n, (h, w) in enumerate(SIZES):
        size = (2 * h, min(2 * w, 17))
        expected = upsample_2x(alone[n], size)
        torch.testing.assert_close(y[n : n + 1, :, : size[0], : size[1]], expected)
