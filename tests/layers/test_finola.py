import pytest
import torch

from finola_mm import functional
from finola_mm.layers import FINOLALayer


def test_the_four_matrices_stand_where_the_names_say():
    """A steps right, A_neg left, B down, B_neg up: seen from a block in the middle."""
    torch.manual_seed(0)
    finola = FINOLALayer(6).double()
    feat = torch.randn(1, 6, 2, 2, dtype=torch.float64)
    z = finola.blockwise(feat, (1, 1))  # rows and columns 1 and 2 of 4 are visible
    norm = (feat - feat.mean(1, keepdim=True)) / (feat.var(1, False, keepdim=True) + 1e-6).sqrt()
    for name, (y, x), (from_y, from_x) in [
        ('A', (1, 3), (0, 1)),
        ('A_neg', (1, 0), (0, 0)),
        ('B', (3, 1), (1, 0)),
        ('B_neg', (0, 1), (0, 0)),
    ]:
        matrix = finola.get_parameter(name)
        expected = feat[0, :, from_y, from_x] + matrix @ norm[0, :, from_y, from_x]
        torch.testing.assert_close(z[0, :, y, x], expected)


def test_parameters_and_initialization():
    torch.manual_seed(0)
    finola = FINOLALayer(256)
    assert {name: tuple(p.shape) for name, p in finola.named_parameters()} == {
        name: (256, 256) for name in ('A', 'A_neg', 'B', 'B_neg')
    }
    for matrix in finola.parameters():
        # 1/sqrt(C), within 4 deviations of the estimate
        assert abs(matrix.std().item() * 256**0.5 - 1) < 4 / (2 * 256**2) ** 0.5
    assert not torch.equal(finola.A, finola.B)


def test_blockwise_passes_steps_and_eps_on():
    finola = FINOLALayer(4, eps=0.5)
    feat = torch.randn(2, 4, 2, 3)
    matrices = finola.A, finola.A_neg, finola.B, finola.B_neg
    for steps in ('block', 'element'):
        expected = functional.finola_blockwise(feat, (1, 2), *matrices, steps=steps, eps=0.5)
        assert torch.equal(finola.blockwise(feat, (1, 2), steps), expected)


@pytest.mark.parametrize('origin', [None, (0, 1)])
def test_forward_passes_the_matrices_and_eps_on(origin):
    finola = FINOLALayer(4, eps=0.5)
    q = torch.randn(2, 3, 4)
    matrices = finola.A, finola.A_neg, finola.B, finola.B_neg
    z = finola(q, (3, 3), origin)
    assert torch.equal(z, functional.finola(q, *matrices, (3, 3), origin, eps=0.5))
    z.sum().backward()
    assert all(matrix.grad.abs().sum() > 0 for matrix in matrices) is (origin is None)
