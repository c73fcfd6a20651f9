"""RankMe, the effective rank of features: a measure of collapse that needs no labels.

Paper: "RankMe: Assessing the Downstream Performance of Pretrained Self-Supervised Representations
by Their Rank" (arXiv 2210.02885), Eq. 1. It is the exponential of the entropy of the singular
values: D for features that use all D directions equally, 1 for features on a line.
"""

import torch
from torch import Tensor


def second_moment(features: Tensor) -> Tensor:
    """Compute the sum of outer products of features (n, D) -> (D, D) in float64."""
    return sum(part.double().T @ part.double() for part in features.split(4096))


def rankme(moment: Tensor, eps: float = 1e-7) -> float:
    """Compute RankMe from the second moment (D, D) of all features."""
    singular = torch.linalg.eigvalsh(moment).clamp(min=0).sqrt()
    p = singular / singular.sum() + eps
    return torch.exp(-(p * p.log()).sum()).item()
