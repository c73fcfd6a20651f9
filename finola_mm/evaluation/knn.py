"""Exact nearest neighbours of feature vectors, and the accuracy of their vote.

The protocol of DINO (arXiv 2104.14294): cosine similarity s; each of the k nearest vectors votes
for its class with weight exp(s / T), T = 0.07. One detail differs: a class without a vote is never
among the top five, so there are no chance hits if the k neighbours have fewer than five classes.

Legend: N query vectors and M bank vectors of dimension D, k neighbours, K classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..errors import UserError
from .features import check_features

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
    """Return a dict of k -> (top-1, top-5) accuracy in percent.

    bank (M, D), bank_labels (M,), queries (N, D), labels (N,).
    Computed on the device of ``queries``; the bank is moved there in parts.

    Raises:
        UserError: mismatched shapes or labels, features that are not finite, k > M.
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
    """Return the cosine similarities and indices (N, k) of the nearest bank vectors, nearest first.

    chunks: numbers of queries and bank vectors compared at a time, which bound the memory.

    Raises:
        UserError: k is not from 1 to M, or the vectors differ in length.
    """
    if not 1 <= k <= len(bank):
        raise UserError(f'k is {k}, but the bank has {len(bank)} images; use 1 to {len(bank)}')
    if queries.shape[1:] != bank.shape[1:]:
        raise UserError(
            f'queries have shape {tuple(queries.shape[1:])} and the bank {tuple(bank.shape[1:])}; '
            'compute both with the same encoder'
        )
    parts = normalize(queries, dim=1).split(chunks[0])
    found = [
        (part.new_empty(len(part), 0), part.new_empty(len(part), 0, dtype=torch.int64))
        for part in parts
    ]
    for first in range(0, len(bank), chunks[1]):
        near = normalize(bank[first : first + chunks[1]].to(queries), dim=1).T  # (D, m)
        for i, part in enumerate(parts):
            value, column = (part @ near).topk(min(k, near.shape[1]), dim=1)  # (n, <= k)
            similarity = torch.cat([found[i][0], value], dim=1)
            index = torch.cat([found[i][1], column + first], dim=1)
            similarity, order = similarity.topk(min(k, similarity.shape[1]), dim=1)
            found[i] = similarity, index.gather(1, order)
    similarities, indices = zip(*found, strict=True)
    return torch.cat(similarities), torch.cat(indices)


def knn_vote_accuracy(
    similarity: Tensor, classes: Tensor, labels: Tensor, *, temperature: float = 0.07
) -> tuple[float, float]:
    """Return (top-1, top-5) in percent for neighbours' similarity, classes (N, k) and labels (N,).

    Raises:
        UserError: temperature is not positive.
    """
    if temperature <= 0:
        raise UserError(f'temperature is {temperature}; it must be positive')
    classes, labels = classes.to(similarity.device), labels.to(similarity.device)
    num_classes = int(max(classes.max(), labels.max())) + 1
    hits = torch.zeros(2, dtype=torch.float64)
    for s, c, y in zip(*(t.split(QUERIES) for t in (similarity, classes, labels)), strict=True):
        # Subtracting the largest s keeps the order; exp(1 / T) is infinite at T = 0.01.
        weights = ((s - s.amax(1, keepdim=True)) / temperature).exp()  # (n, k)
        votes = weights.new_zeros(len(s), num_classes).scatter_add_(1, c, weights)  # (n, K)
        votes[votes == 0] = -torch.inf
        hits += len(s) * torch.tensor(top_accuracy(votes, y), dtype=torch.float64)
    top1, top5 = (hits / len(labels)).tolist()
    return top1, top5


def top_accuracy(scores: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return (top-1, top-5) in percent; scores (N, K), -inf for excluded classes; labels (N,).

    For equal scores, the lower class comes first, as in scikit-learn; the order of ``topk`` depends
    on the device.
    """
    own = scores.gather(1, labels[:, None])  # (N, 1)
    before = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]  # (N, K)
    rank = ((scores > own) | (scores == own) & before).sum(1)  # (N,); 0 = the best
    possible = own[:, 0] > -torch.inf
    top1, top5 = (100 * ((rank < n) & possible).double().mean().item() for n in (1, 5))
    return top1, top5
