"""Patches against plain indexing."""

import pytest
import torch

from finola_mm.functional import (
    crop_block,
    gather_tokens,
    image_to_patches,
    patches_to_image,
)

P = 4


@pytest.fixture
def images():
    return torch.randn(3, 3, 16, 24, generator=torch.Generator().manual_seed(0))


def test_crop_block(images):
    offset = torch.tensor([[0, 0], [2, 3], [1, 2]])
    crops = crop_block(images, offset, (2, 3), P)
    for image, crop, (row, col) in zip(images, crops, offset.tolist(), strict=True):
        assert torch.equal(crop, image[:, row * P : (row + 2) * P, col * P : (col + 3) * P])
    assert crops.is_contiguous(memory_format=torch.channels_last)


def test_patches_against_plain_indexing(images):
    n, c, height, width = images.shape
    grid = (height // P, width // P)
    patches = torch.empty(n, *grid, c * P * P)
    for y in range(grid[0]):
        for x in range(grid[1]):
            patch = images[:, :, y * P : (y + 1) * P, x * P : (x + 1) * P]
            patches[:, y, x] = patch.flatten(1)
    assert torch.equal(image_to_patches(images, P), patches.flatten(1, 2))
    assert torch.equal(patches_to_image(patches.flatten(1, 2), P, grid), images)


def test_take():
    x, index = torch.randn(2, 5, 3), torch.tensor([[4, 0], [2, 2]])
    assert torch.equal(gather_tokens(x, index), torch.stack([x[0, [4, 0]], x[1, [2, 2]]]))
