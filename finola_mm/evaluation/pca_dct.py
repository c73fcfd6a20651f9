"""Reconstruct images from K numbers each, by principal components (PCA) or cosine transforms (DCT).

Both are baselines for FINOLA's latent vector of K numbers. What all images share does not count:
their mean, the components and the fixed positions.
"""

import math
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import UserError

Fitted = dict[str, Tensor]  # mean (3, H, W), components (K, D), dct_PATCH: order of positions (D,)
EXACT = 5000  # PCA is exact up to this number of images or pixels, else randomized (4 iterations)
# Orthonormal: luminance, red-blue and green-magenta are nearly uncorrelated in photographs.
COLOURS = torch.tensor([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / torch.tensor([[3], [2], [6]]).sqrt()


def principal_components(x: Tensor, k: int) -> Tensor:
    """Compute the first k principal directions of centred data: (N, D) -> (k, D), orthonormal."""
    n, d = x.shape
    if min(n, d) > EXACT:
        return torch.svd_lowrank(x, q=min(k + 16, n, d), niter=4)[2][:, :k].mT
    gram = torch.zeros(min(n, d), min(n, d), dtype=torch.float64)  # float32 would lose small values
    for part in x.split(4096, dim=int(n <= d)):
        part = part.double()
        gram += part @ part.mT if n <= d else part.mT @ part
    values, vectors = torch.linalg.eigh(gram)  # ascending
    values, vectors = values[-k:].flip(0), vectors[:, -k:].flip(1)
    if n > d:
        return vectors.mT.to(x.dtype)
    return ((vectors / values.clamp(min=values[0] * 1e-14).sqrt()).mT @ x.double()).to(x.dtype)


def pca(fitted: Fitted) -> Callable[[Tensor, int], Tensor]:
    """Return a function of images (N, 3, H, W) and k up to the number of components."""
    mean, basis = fitted['mean'].flatten(), fitted['components'].float()  # (D,), (K, D)

    def reconstruct(images, k):
        q = (images.flatten(1) - mean) @ basis[:k].mT  # (N, k)
        return (mean + q @ basis[:k]).view_as(images)

    return reconstruct


def dct_matrix(n: int) -> Tensor:
    """Return the orthonormal DCT-II, (n, n), one row per frequency."""
    k, x = torch.arange(n)[:, None], torch.arange(n)[None]
    matrix = torch.cos(math.pi * (x + 0.5) * k / n) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


def dct(images: Tensor, patch: int) -> Tensor:
    """Apply the orthonormal DCT to patches: (N, 3, H, W) -> (N, 3, H/p, p, W/p, p)."""
    x = images.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))
    d = dct_matrix(patch)
    return torch.einsum('kc,uy,vx,nciyjx->nkiujv', COLOURS, d, d, x)


def inverse_dct(coefficients: Tensor) -> Tensor:
    d = dct_matrix(coefficients.shape[-1])
    x = torch.einsum('kc,uy,vx,nkiujv->nciyjx', COLOURS, d, d, coefficients)
    return x.flatten(4, 5).flatten(2, 3)


def dct_order(centred: Tensor, patch: int) -> Tensor:
    """Sort the positions (patch, colour, frequency) by decreasing variance, (3 * H * W,)."""
    variance = dct(centred, patch).flatten(1).square().mean(0)
    return variance.argsort(descending=True).int()


def dct_fixed(fitted: Fitted, patch: int) -> Callable[[Tensor, int], Tensor]:
    """Keep the k positions of largest variance over the training images."""
    mean, order = fitted['mean'], fitted[f'dct_{patch}'].long()

    def reconstruct(images, k):
        coefficients = dct(images - mean, patch)
        kept = torch.zeros_like(coefficients[0].flatten()).index_fill_(0, order[:k], 1)
        return mean + inverse_dct(coefficients * kept.view_as(coefficients[0]))

    return reconstruct


def dct_largest(fitted: Fitted, patch: int) -> Callable[[Tensor, int], Tensor]:
    """Keep the k largest coefficients of each image."""
    mean = fitted['mean']

    def reconstruct(images, k):
        coefficients = dct(images - mean, patch)
        flat = coefficients.flatten(1)
        kept = torch.zeros_like(flat).scatter_(1, flat.abs().topk(k).indices, 1)
        return mean + inverse_dct((flat * kept).view_as(coefficients))

    return reconstruct


def fit(train: Tensor, latents: list[int], patches: list[int]) -> Fitted:
    """Fit PCA and DCT to images (N, 3, H, W).

    PCA has as many components as the largest of ``latents`` that is smaller than N.
    """
    mean = train.mean(0)
    centred = train - mean
    count = max((k for k in latents if k < len(train)), default=0)
    fitted = {f'dct_{patch}': dct_order(centred, patch) for patch in patches}
    components = principal_components(centred.flatten(1), count) if count else train[:0].flatten(1)
    return dict(mean=mean, components=components, **fitted)


def save_fitted(fitted: Fitted, file: Path | str) -> None:
    """Write a .safetensors file, with the components in float16."""
    save_file({**fitted, 'components': fitted['components'].half()}, file)


def load_fitted(file: Path | str) -> Fitted:
    """Read a file written by ``save_fitted``.

    Raises:
        UserError: the file is missing, or something else.
    """
    try:
        fitted = load_file(file)
        if not {'mean', 'components'} <= {*fitted}:
            raise KeyError(f'it contains {", ".join(sorted(fitted)) or "nothing"}')
    except (OSError, KeyError, SafetensorError) as error:
        raise UserError(
            f'{file} does not contain a PCA and DCT, as tools/analysis/latent_baselines.py --save '
            f'writes them: {error!r}'
        ) from None
    return fitted
