"""Top-1 and top-5 accuracy of scores, the same on every device.

``topk`` may order equal scores in any way; here the lower class comes first, as in scikit-learn.

Legend: N images, K classes.
"""

import torch
from torch import Tensor


def top_accuracy(scores: Tensor, labels: Tensor) -> tuple[float, float]:
    """Share of images in percent whose class has the best, one of the five best of its scores.

    scores (N, K), -inf for a class that is out of the question; labels (N,) from 0 to K - 1.
    """
    own = scores.gather(1, labels[:, None])  # (N, 1)
    before = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]  # (N, K)
    rank = ((scores > own) | (scores == own) & before).sum(1)  # (N,); 0 = the best
    possible = own[:, 0] > -torch.inf
    top1, top5 = (100 * ((rank < n) & possible).double().mean().item() for n in (1, 5))
    return top1, top5
