"""kNN accuracy against scikit-learn's neighbours and votes."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from finola_mm.evaluation import knn, knn_accuracy, knn_vote_accuracy, top_accuracy, topk_neighbors
from tests.messages import shows

CLASSES = 7


def clusters(count, dim, seed, noise=1.5):
    """Random features around a centre for each class, shifted away from the origin."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, dim, generator=torch.Generator().manual_seed(9))
    labels = torch.randint(CLASSES, (count,), generator=generator)
    offsets = noise * torch.randn(count, dim, generator=generator)
    return (centres[labels] + offsets + 0.3).double(), labels


def oracle(bank, bank_labels, queries, k, temperature):
    """scikit-learn's votes (N, K), as shares of all votes of a query."""

    def weights(distances):
        return np.exp((1 - distances) / temperature)

    classifier = KNeighborsClassifier(k, metric='cosine', algorithm='brute', weights=weights).fit(
        bank.numpy(), bank_labels.numpy()
    )
    return classifier.predict_proba(queries.numpy())


@pytest.mark.parametrize('size', [(301, 97, 13), (64, 9, 3)])
@pytest.mark.parametrize('temperature', [0.07, 0.5])
def test_against_scikit_learn(size, temperature):
    bank, bank_labels = clusters(size[0], size[2], seed=0)
    queries, labels = clusters(size[1], size[2], seed=1)
    ks = (1, 10, 20, 61)
    found = knn_accuracy(bank, bank_labels, queries, labels, ks=ks, temperature=temperature)
    for k in ks:
        votes = oracle(bank, bank_labels, queries, k, temperature)
        order = np.argsort(-votes, axis=1, kind='stable')  # (N, K), the best class first
        elected = np.take_along_axis(votes, order, 1) > 0
        hits = (order == labels.numpy()[:, None]) & elected
        top1, top5 = 100 * hits[:, 0].mean(), 100 * hits[:, :5].any(1).mean()
        assert found[k] == pytest.approx((top1, top5), abs=1e-9)
    assert top1 < top5


@pytest.mark.parametrize('chunks', [(1, 1), (5, 7), (97, 301), (1000, 1000), (40, 3)])
def test_neighbours_do_not_depend_on_the_chunks(chunks):
    (bank, _), (queries, _) = clusters(301, 13, 0), clusters(97, 13, 1)
    similarity, index = topk_neighbors(queries, bank, 20, chunks=chunks)
    every = torch.nn.functional.cosine_similarity(queries[:, None], bank[None], dim=2)
    expected = every.sort(dim=1, descending=True)
    assert torch.equal(index, expected.indices[:, :20])
    torch.testing.assert_close(similarity, expected.values[:, :20], rtol=0, atol=1e-12)


def test_votes_in_parts(monkeypatch):
    (bank, bank_labels), (queries, labels) = clusters(50, 5, 0), clusters(23, 5, 1)
    whole = knn_accuracy(bank, bank_labels, queries, labels, ks=(4,))[4]
    monkeypatch.setattr(knn, 'QUERIES', 3)
    parts = knn_accuracy(bank, bank_labels, queries, labels, ks=(4,))[4]
    assert parts == pytest.approx(whole)


def test_votes_by_hand():
    """Two distant neighbours of one class against a near one of another class."""
    similarity = torch.tensor([[0.9, 0.8, 0.79]])
    classes = torch.tensor([[1, 0, 0]])
    near = knn_vote_accuracy(similarity, classes, torch.tensor([1]), temperature=0.05)
    far = knn_vote_accuracy(similarity, classes, torch.tensor([1]), temperature=1.0)
    # exp(0.9 / T) against exp(0.8 / T) + exp(0.79 / T)
    assert near == (100, 100) and far == (0, 100)
    # A class without a vote is never among the top five, although there are only three classes.
    assert knn_vote_accuracy(similarity, classes, torch.tensor([2])) == (0, 0)
    # Where exp(s / T) is infinite in float32
    assert knn_vote_accuracy(similarity, classes, torch.tensor([1]), temperature=0.002) == (
        100,
        100,
    )


def test_equal_scores_go_to_the_lower_class():
    scores = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    assert top_accuracy(scores, torch.tensor([0, 1])) == (50, 100)


def test_bad_input():
    (bank, bank_labels), (queries, labels) = clusters(12, 4, 0), clusters(5, 4, 1)
    good = dict(bank=bank, bank_labels=bank_labels, queries=queries, labels=labels)
    for message, change in {
        shows(13, 12): dict(ks=(13,)),
        shows('(3,)', '(4,)'): dict(queries=queries[:, :3]),
        shows('labels', '(3,)', '(12,)'): dict(bank_labels=bank_labels[:3]),
        shows('labels', -1): dict(labels=torch.full_like(labels, -1)),
        shows('labels', 'torch.float64', '(5,)'): dict(labels=labels.double()),
        shows((5, 2, 2)): dict(queries=queries.view(5, 2, 2)),
        r'(?s)(?=.*\b1\b)(?=.*\b12\b)': dict(bank=bank.masked_fill(bank == bank[3, 2], torch.nan)),
        shows('temperature', 0): dict(temperature=0),
    }.items():
        with pytest.raises(ValueError, match=message):
            knn_accuracy(**{'ks': (2,), **good, **change})
