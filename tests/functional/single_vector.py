"""One step of Eq. 1 for a single vector, written from the paper: the oracle of both fused forms."""

import torch


def step(z, matrix, eps=1e-6):
    """z + matrix n(z), z (C,)."""
    centred = z - z.mean()
    return z + matrix @ (centred / torch.sqrt((centred**2).mean() + eps))


def iterate(z, matrix, times):
    for _ in range(times):
        z = step(z, matrix)
    return z
