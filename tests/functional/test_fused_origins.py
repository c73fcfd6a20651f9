"""FINOLA from an origin of its own in every image, against the readable loop on each image."""

import itertools

import pytest
import torch

from finola_mm.functional import norm_linear_step, unroll, unroll_from_origins
from tests.messages import shows

C, SIZE = 5, (4, 3)
ORIGINS = torch.tensor(list(itertools.product(*map(range, SIZE)))).flip(0)


def test_maps_and_gradients():
    generator = torch.Generator().manual_seed(0)
    q, *matrices = (
        torch.randn(*shape, C, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((len(ORIGINS), 2), *4 * [(C,)])
    )
    named = dict(zip(('A', 'A_neg', 'B', 'B_neg'), matrices, strict=True))

    def step(z, name):
        return norm_linear_step(z, named[name])

    z = unroll_from_origins(step, q, SIZE, ORIGINS)
    images = zip(q, ORIGINS.tolist(), strict=True)
    expected = torch.cat([unroll(step, image[None], SIZE, tuple(o)) for image, o in images])
    torch.testing.assert_close(z, expected, rtol=0, atol=1e-11)
    weights = torch.randn(z.shape, generator=generator, dtype=torch.float64)
    gradients, others = (torch.autograd.grad(t, (q, *matrices), weights) for t in (z, expected))
    torch.testing.assert_close(gradients, others, rtol=0, atol=1e-9)


def test_an_origin_outside_is_refused():
    with pytest.raises(ValueError, match=shows(4, 3, 2, 3)):
        unroll_from_origins(None, torch.zeros(1, C), SIZE, torch.tensor([[2, 3]]))
