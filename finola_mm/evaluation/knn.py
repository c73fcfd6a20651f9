"""Exact nearest neighbours of feature vectors, and how often their vote is right.

The protocol of DINO (arXiv 2104.14294): cosine similarity s, every one of the k nearest vectors
votes for its class with weight exp(s / T), T = 0.07. We differ in one thing: a class without a
vote is never among the top five, so that fewer than five classes among the k give no lucky hit.

Legend: N query vectors and M bank vectors of D numbers, k neighbours.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .top_accuracy import top_accuracy

QUERIES, BANK = 2048, 8192  # vectors compared at a time: 64 MB of similarities in float32


def knn_accuracy(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    labels: Tensor,
    *,
    ks: Sequence[int] = (10, 20, 100, 200),
    temperature: float = 0.07,
) -> dict[int, tuple[float, float]]:
    """k -> (top-1, top-5) in percent, for bank (M, D) of classes (M,) and queries (N, D) of (N,).

    Computed where ``queries`` are; the bank may be elsewhere and is moved there part by part.

    Raises:
        ValueError: shapes or labels that do not fit, features that are not finite, k above M.
    """
    check_features(bank, bank_labels)
    check_features(queries, labels)
    similarity, index = topk_neighbors(queries, bank, max(ks))
    classes = bank_labels.to(index.device)[index]  # (N, k)
    return {
        k: knn_vote_accuracy(similarity[:, :k], classes[:, :k], labels, temperature=temperature)
        for k in ks
    }


def topk_neighbors(
    queries: Tensor, bank: Tensor, k: int, *, chunks: tuple[int, int] = (QUERIES, BANK)
) -> tuple[Tensor, Tensor]:
    """The k bank vectors most similar to each query: cosine similarities and indices, (N, k) each.

    In falling order. chunks: how many queries and bank vectors are compared at a time; besides
    their similarities, the memory is that of the queries and of the result.

    Raises:
        ValueError: k is not from 1 to M, or vectors of different lengths.
    """
    if not 1 <= k <= len(bank):
        raise ValueError(f'k = {k} neighbours of a bank of {len(bank)}; use 1 to {len(bank)}')
    if queries.shape[1:] != bank.shape[1:]:
        raise ValueError(
            f'queries of {tuple(queries.shape[1:])} numbers and a bank of {tuple(bank.shape[1:])}; '
            'take both from the same encoder'
        )
    parts = normalize(queries, dim=1).split(chunks[0])
    found = [
        (part.new_empty(len(part), 0), part.new_empty(len(part), 0, dtype=torch.int64))
        for part in parts
    ]
    for first in range(0, len(bank), chunks[1]):
        near = normalize(bank[first : first + chunks[1]].to(queries), dim=1).T  # (D, m)
        for i, part in enumerate(parts):
            found[i] = _merge(*found[i], part @ near, first, k)
    similarities, indices = zip(*found, strict=True)
    return torch.cat(similarities), torch.cat(indices)


def _merge(
    similarity: Tensor, index: Tensor, new: Tensor, first: int, k: int
) -> tuple[Tensor, Tensor]:
    """The best k of those found so far and of ``new`` (n, m), whose columns count from first."""
    value, column = new.topk(min(k, new.shape[1]), dim=1)
    similarity = torch.cat([similarity, value], dim=1)
    index = torch.cat([index, column + first], dim=1)
    similarity, order = similarity.topk(min(k, similarity.shape[1]), dim=1)
    return similarity, index.gather(1, order)


def knn_vote_accuracy(
    similarity: Tensor, classes: Tensor, labels: Tensor, *, temperature: float = 0.07
) -> tuple[float, float]:
    """(top-1, top-5) in percent: neighbours of these similarities and classes, (N, k) each, vote.

    labels (N,): what is right.

    Raises:
        ValueError: temperature is not positive.
    """
    if temperature <= 0:
        raise ValueError(f'temperature is {temperature}; it must be positive')
    classes, labels = classes.to(similarity.device), labels.to(similarity.device)
    num_classes = int(max(classes.max(), labels.max())) + 1
    hits = torch.zeros(2, dtype=torch.float64)
    for s, c, y in zip(*(t.split(QUERIES) for t in (similarity, classes, labels)), strict=True):
        # Less the largest s, which changes no order: exp(1 / T) is infinite at T = 0.01.
        weights = ((s - s.amax(1, keepdim=True)) / temperature).exp()  # (n, k)
        votes = weights.new_zeros(len(s), num_classes).scatter_add_(1, c, weights)
        votes[votes == 0] = -torch.inf
        hits += len(s) * torch.tensor(top_accuracy(votes, y), dtype=torch.float64)
    top1, top5 = (hits / len(labels)).tolist()
    return top1, top5


def check_features(features: Tensor, labels: Tensor) -> None:
    """Refuse what is not a finite (n, D) of floating-point numbers with labels (n,) from 0 up.

    Raises:
        ValueError: with what was found.
    """
    if features.ndim != 2 or not len(features) or not features.is_floating_point():
        raise ValueError(
            f'features are {features.dtype} of shape {tuple(features.shape)}; expected '
            'floating-point numbers of shape (images, channels)'
        )
    if labels.shape != features.shape[:1] or labels.dtype != torch.int64 or labels.min() < 0:
        raise ValueError(
            f'labels are {labels.dtype} of shape {tuple(labels.shape)}, the smallest '
            f'{labels.min().item() if labels.numel() else "of none"}; expected int64 of shape '
            f'({len(features)},), counted from 0'
        )
    spoiled = ~torch.linalg.vector_norm(features, dim=1).isfinite()  # (n,)
    if spoiled.any():
        raise ValueError(
            f'{int(spoiled.sum())} of {len(features)} feature vectors are not finite; look for NaN '
            "in the encoder's weights and in the images"
        )
