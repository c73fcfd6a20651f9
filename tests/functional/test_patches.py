"""Patches against plain indexing, and against mmpretrain's MAE head."""

import pytest
import torch

from finola_mm.functional import crop_block, patch_mean_std, patches_to_image

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


def test_patches_to_image(images):
    n, c, height, width = images.shape
    patches = torch.empty(n, height // P, width // P, c * P * P)
    for y in range(height // P):
        for x in range(width // P):
            patch = images[:, :, y * P : (y + 1) * P, x * P : (x + 1) * P]
            patches[:, y, x] = patch.flatten(1)
    assert torch.equal(patches_to_image(patches, P), images)


def test_patch_mean_std(images):
    mean, std = patch_mean_std(images, P)
    patch = images[1, :, P : 2 * P, 2 * P : 3 * P].flatten()
    assert mean.shape == std.shape == (3, 1, 16, 24)
    torch.testing.assert_close(mean[1, 0, P, 2 * P], patch.mean())
    torch.testing.assert_close(std[1, 0, 2 * P - 1, 3 * P - 1], (patch.var() + 1e-6).sqrt())
