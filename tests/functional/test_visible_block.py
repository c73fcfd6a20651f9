"""A visible block of any size against loops over the positions of its grid."""

import itertools

import pytest
import torch

from finola_mm.functional import (
    as_offsets,
    block_mask,
    crop_block,
    masked_positions,
)
from tests.messages import shows

BLOCK, GRID = (2, 3), (5, 4)
OFFSETS = list(itertools.product(range(4), range(2)))


def is_masked(y, x, offset):
    return not (0 <= y - offset[0] < BLOCK[0] and 0 <= x - offset[1] < BLOCK[1])


def test_mask_and_positions_at_every_offset():
    mask = block_mask(torch.tensor(OFFSETS), BLOCK, grid=GRID)
    positions = masked_positions(mask)
    places = list(itertools.product(*map(range, GRID)))
    for i, offset in enumerate(OFFSETS):
        expected = [is_masked(*place, offset) for place in places]
        assert mask[i].flatten().tolist() == expected
        assert positions[i].tolist() == [k for k, masked in enumerate(expected) if masked]


def test_crop_shows_the_visible_positions():
    p = 2
    y, x = torch.meshgrid(torch.arange(10), torch.arange(8), indexing='ij')
    images = torch.stack((y, x)).expand(len(OFFSETS), -1, -1, -1)
    for block, (row, col) in zip(
        crop_block(images, torch.tensor(OFFSETS), BLOCK, p), OFFSETS, strict=True
    ):
        assert block[0, :, 0].tolist() == list(range(p * row, p * (row + 2)))
        assert block[1, 0].tolist() == list(range(p * col, p * (col + 3)))


def test_without_a_grid_the_block_is_a_quarter():
    assert torch.equal(block_mask((1, 2), (2, 3), n=2), block_mask((1, 2), (2, 3), 2, (4, 6)))
    assert as_offsets((2, 3), (2, 3), 2).tolist() == [[2, 3]] * 2


@pytest.mark.parametrize('offset', [(4, 0), (0, 2), (-1, 0)])
def test_an_offset_off_the_grid_is_refused(offset):
    limits = r'(?=(.*\b3\b){2})(?=.*(?<!-)\b1\b)'  # the block has a 3 too
    message = shows('offset', offset, BLOCK) + limits
    with pytest.raises(ValueError, match=message):
        block_mask(offset, BLOCK, grid=GRID)
    with pytest.raises(ValueError, match=message):
        crop_block(torch.zeros(1, 3, 10, 8), offset, BLOCK, 2)


@pytest.mark.parametrize('offset', [(0.5, 0.0), (1, 2, 3), [[0, 0], [1, 1]]])
def test_other_offsets_are_refused(offset):
    seen = torch.tensor(offset)
    message = shows('offset', tuple(seen.shape), seen.dtype) + r'(?=.*\b3\b)'  # of 3 images
    with pytest.raises(ValueError, match=message):
        as_offsets(offset, BLOCK, 3, GRID)


def test_maps_with_different_counts_are_refused():
    mask = torch.tensor([[[True, True]], [[True, False]]])
    with pytest.raises(ValueError, match=shows([2, 1])):
        masked_positions(mask)
