"""The linear probe against scikit-learn's logistic regression."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from finola_mm.evaluation import linear_accuracy
from finola_mm.evaluation.linear_probe import fit
from tests.messages import shows

# The weights of two optimisers differ within their tolerances, and one of the 240 queries may lie
# between the two decision boundaries.
ONE_QUERY = 100.5 / 240  # percent


def data(seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(6, (240,), generator=generator)
    centres = torch.randn(6, 10, generator=torch.Generator().manual_seed(5))
    noise = 2 * torch.randn(240, 10, generator=generator)
    return (100 * (centres[labels] + noise) + 7).double(), labels


def test_against_scikit_learn():
    penalty, (x, y), (queries, labels) = 1e-2, data(0), data(1)
    scaler = StandardScaler().fit(x.numpy())
    # C weights the sum of the losses.
    model = LogisticRegression(C=1 / (penalty * len(x)), tol=1e-9, max_iter=5000)
    model.fit(scaler.transform(x.numpy()), y.numpy())
    weight, bias = fit(torch.from_numpy(scaler.transform(x.numpy())), y, 6, penalty, 500)
    # Biases are defined up to a constant, and scikit-learn centres them.
    torch.testing.assert_close(weight, torch.from_numpy(model.coef_), atol=1e-4, rtol=1e-4)
    offset = torch.from_numpy(model.intercept_)
    torch.testing.assert_close(bias - bias.mean(), offset - offset.mean(), atol=1e-4, rtol=1e-4)
    top1, top5 = linear_accuracy(x, y, queries, labels, penalty=penalty)
    expected = model.score(scaler.transform(queries.numpy()), labels.numpy())
    assert top1 == pytest.approx(100 * expected, abs=ONE_QUERY) and top1 < top5 < 100.1


def test_a_dead_channel_and_another_scale_change_nothing():
    (x, y), (queries, labels) = data(0), data(1)
    expected = linear_accuracy(x, y, queries, labels)
    x, queries = (torch.cat([3 * t, t.new_full((len(t), 1), 4.0)], dim=1) for t in (x, queries))
    assert linear_accuracy(x, y, queries, labels) == pytest.approx(expected, abs=ONE_QUERY)


def test_nothing_to_learn_from_constant_features():
    x, y = torch.ones(8, 3), torch.tensor([0, 0, 0, 0, 0, 1, 1, 2])
    assert linear_accuracy(x, y, x, y)[0] == pytest.approx(100 * 5 / 8)


def test_bad_input():
    (x, y), (queries, labels) = data(0), data(1)
    with pytest.raises(ValueError, match=shows('labels', '(5,)', '(240,)')):
        linear_accuracy(x, y[:5], queries, labels)
