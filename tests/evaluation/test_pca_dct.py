"""PCA against NumPy's SVD, and the DCT against its definition."""

import math

import numpy as np
import pytest
import torch

from finola_mm.evaluation import pca_dct


@pytest.mark.parametrize('count, side', [(30, 16), (30, 2), (400, 4)])
def test_principal_components_are_numpys(count, side):
    """With fewer images than pixels, and with more."""
    x = torch.randn(count, 3 * side**2, generator=torch.Generator().manual_seed(1))
    x = x * torch.linspace(2, 0.1, x.shape[1])
    x = x - x.mean(0)
    k = 6
    axes = np.linalg.svd(x.double().numpy(), full_matrices=False)[2][:k]
    found = pca_dct.principal_components(x, k).double().numpy()
    np.testing.assert_allclose(found @ found.T, np.eye(k), atol=1e-5)
    np.testing.assert_allclose(found.T @ found, axes.T @ axes, atol=1e-4)  # up to signs


def test_randomised_components_are_nearly_as_good(monkeypatch):
    x = torch.randn(60, 300, generator=torch.Generator().manual_seed(1)) * 0.8 ** torch.arange(300)
    x = x - x.mean(0)
    exact = pca_dct.principal_components(x, 5)
    monkeypatch.setattr(pca_dct, 'EXACT', 10)
    found = pca_dct.principal_components(x, 5)
    assert found.shape == exact.shape
    torch.testing.assert_close(found.mT @ found, exact.mT @ exact, atol=1e-3, rtol=0)


def test_pca_reconstructions(smooth_images):
    train, val = smooth_images
    reconstruct = pca_dct.pca(pca_dct.fit(train, [4, 29], []))
    mean = train.flatten(1).double().mean(0).numpy()
    axes = np.linalg.svd(train.flatten(1).double().numpy() - mean, full_matrices=False)[2][:4]
    expected = mean + (val.flatten(1).double().numpy() - mean) @ axes.T @ axes
    np.testing.assert_allclose(reconstruct(val, 4).flatten(1).numpy(), expected, atol=1e-4)
    torch.testing.assert_close(reconstruct(train, 29), train, atol=1e-4, rtol=0)


def test_dct_by_definition():
    """One coefficient equals the double sum of Ahmed et al.; the transform is orthonormal."""
    matrix = pca_dct.dct_matrix(8).double()
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(8).double(), atol=1e-6, rtol=0)
    image = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    coefficients = pca_dct.dct(image, 8)
    assert coefficients.shape == (1, 3, 2, 8, 3, 8)
    u, v, luminance = 3, 5, image[0].sum(0) / math.sqrt(3)
    oracle = sum(
        luminance[8 + y, 16 + x].item()
        / 4
        * math.cos((2 * y + 1) * u * math.pi / 16)
        * math.cos((2 * x + 1) * v * math.pi / 16)
        for y in range(8)
        for x in range(8)
    )
    assert coefficients[0, 0, 1, u, 2, v].item() == pytest.approx(oracle, abs=1e-5)
    torch.testing.assert_close(pca_dct.inverse_dct(coefficients), image)
    assert coefficients.norm().item() == pytest.approx(image.norm().item(), rel=1e-5)


@pytest.mark.parametrize('patch', [8, 16])
def test_what_dct_drops_is_the_least(smooth_images, patch):
    """The squared error is that of the dropped coefficients; with all there is none."""
    train, val = smooth_images
    k = 20
    coefficients = pca_dct.dct(val - train.mean(0), patch).flatten(1).square()
    over_train = pca_dct.dct(train - train.mean(0), patch).flatten(1).square().mean(0)
    fixed = torch.ones_like(over_train, dtype=torch.bool)
    fixed[np.argsort(over_train.numpy())[::-1][:k].copy()] = False
    expected = dict(
        dct_fixed=coefficients[:, fixed].sum(1),
        dct_largest=coefficients.sort(1).values[:, :-k].sum(1),
    )
    for name, error in expected.items():
        reconstruct = getattr(pca_dct, name)(pca_dct.fit(train, [], [patch]), patch)
        found = (reconstruct(val, k) - val).flatten(1).square().sum(1)
        torch.testing.assert_close(found, error, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(reconstruct(val, 3 * 16 * 16), val)
