"""A small Mobile-Former whose tokens, norms and slopes matter, and images for it."""

import torch
from torch import nn

from finola_mm import MobileFormer

ALL = range(5)
FORMS = ['plain', 'spatial']


def build(arch='small', out_indices=ALL, with_tokens=True, *, lively=True, **options):
    """A small encoder; ``lively`` weights, so that tokens, norms and slopes differ from neutral."""
    torch.manual_seed(0)
    model = MobileFormer(arch, out_indices, with_tokens, **options)
    if lively:
        with torch.no_grad():
            for name, p in model.named_parameters():
                if p.dim() == 1:
                    p.add_(0.1 * torch.randn_like(p))
                elif p.dim() == 2 and name != 'tokens':
                    p.mul_(5)
    return model


def images(*shape, dtype=torch.float):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


def settled(model, x):
    """The model in eval mode with the statistics of x, on which its activations keep their size."""
    momenta = [(m, m.momentum) for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm, _ in momenta:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(x)
    for norm, momentum in momenta:
        norm.momentum = momentum
    return model.eval()
