"""Accuracy of the optimal linear classifier of feature vectors.

Multinomial logistic regression on standardized features. Unlike a trained probe, it encodes every
image once, without augmentation, and requires no schedule. It is a check that takes minutes, not a
substitute for the paper's linear probing (configs/classification/lin.py).

Legend: M training and N test vectors of dimension D, K classes.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from .features import check_features
from .knn import top_accuracy


def linear_accuracy(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    labels: Tensor,
    *,
    penalty: float = 1e-3,
    max_iter: int = 500,
) -> tuple[float, float]:
    """Fit a classifier to the bank; return its (top-1, top-5) in percent on the queries.

    bank (M, D), bank_labels (M,), queries (N, D), labels (N,).
    The loss is the mean cross-entropy + penalty / 2 * squared weights, without the biases.

    Raises:
        UserError: mismatched shapes or labels, features that are not finite.
    """
    check_features(bank, bank_labels)
    check_features(queries, labels)
    std, mean = torch.std_mean(bank, dim=0, correction=0)
    std = std.clamp(min=1e-6 * max(std.max().item(), 1e-30))  # for constant channels
    num_classes = int(max(bank_labels.max(), labels.max())) + 1
    weight, bias = fit((bank - mean).div_(std), bank_labels, num_classes, penalty, max_iter)
    return top_accuracy((queries - mean) / std @ weight.T + bias, labels)


@torch.enable_grad()
def fit(
    x: Tensor, y: Tensor, num_classes: int, penalty: float, max_iter: int
) -> tuple[Tensor, Tensor]:
    """Find the optimal weight (K, D) and bias (K,) for x (M, D), y (M,) with L-BFGS from zero."""
    weight = x.new_zeros(num_classes, x.shape[1], requires_grad=True)
    bias = x.new_zeros(num_classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=max_iter,
        tolerance_grad=1e-6,
        history_size=20,
        line_search_fn='strong_wolfe',
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(x @ weight.T + bias, y) + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach(), bias.detach()
