"""Sine positions against the formula, and against mmdet's, which follow DETR's code."""

import math

import pytest
import torch
from mmdet.models.layers import SinePositionalEncoding

from finola_mm.functional import make_padding_mask, sine_positions
from tests.messages import shows

SIZES = [(5, 7), (3, 4), (5, 2)]


def test_by_the_formula():
    channels, (h, w) = 8, (3, 4)
    pos = sine_positions(torch.zeros(1, h, w, dtype=torch.bool), channels)[0]
    for row in range(h):
        for column in range(w):
            expected = []
            for share in ((row + 1) / h, (column + 1) / w):
                for k in range(channels // 4):
                    angle = 2 * math.pi * share / 10000 ** (2 * k / (channels / 2))
                    expected += [math.sin(angle), math.cos(angle)]
            torch.testing.assert_close(pos[row, column], torch.tensor(expected))


def test_as_in_mmdet_under_padding():
    mask = make_padding_mask(SIZES, (5, 7))
    ours = sine_positions(mask, 32)
    theirs = SinePositionalEncoding(16, normalize=True)(mask).permute(0, 2, 3, 1)
    torch.testing.assert_close(ours[~mask], theirs[~mask], atol=2e-5, rtol=0)
    assert ours.isfinite().all()


def test_a_padded_image_has_the_positions_that_it_has_alone():
    padded = sine_positions(make_padding_mask(SIZES, (5, 7)), 16)
    for n, (h, w) in enumerate(SIZES):
        alone = sine_positions(torch.zeros(1, h, w, dtype=torch.bool), 16)[0]
        # The angles are equal, but vectorized and scalar sines may differ in their last bit, which
        # is at most 2^-24 for values up to 1.
        torch.testing.assert_close(padded[n, :h, :w], alone, rtol=0, atol=2**-23)


def test_channels_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match=shows('channels', 4, 6)):
        sine_positions(torch.zeros(1, 2, 2, dtype=torch.bool), 6)
