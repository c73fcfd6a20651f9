"""The ablations of the step against plain loops over positions, in float64."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from finola_mm import functional
from finola_mm.layers import FINOLALayer
from tests.messages import shows

N, M, C = 3, 2, 6
SIZE = (3, 4)
NAMES = ('A', 'A_neg', 'B', 'B_neg')


def module(step):
    torch.manual_seed(0)
    return FINOLALayer(C, step=step).double()


def vectors():
    return torch.randn(N, M, C, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def norm(z, eps=1e-6):
    centred = z - z.mean()
    return centred / torch.sqrt((centred**2).mean() + eps)


def loop(step, q, size, origin):
    """Every image, path, position and order for itself; step takes one vector (C,) and a name."""
    z = torch.zeros(len(q), C, *size, dtype=q.dtype)
    for i, m, y, x in itertools.product(*map(range, (len(q), q.shape[1], *size))):
        right, down = x - origin[1], y - origin[0]
        on_x = ['A' if right > 0 else 'A_neg'] * abs(right)
        on_y = ['B' if down > 0 else 'B_neg'] * abs(down)
        for names in (on_x + on_y, on_y + on_x):
            v = q[i, m]
            for name in names:
                v = step(v, name)
            z[i, :, y, x] += v / 2
    return z


def gelu(x):
    return x * (1 + torch.erf(x / 2**0.5)) / 2


def linear(finola):
    return lambda v, name: v + finola.get_parameter(name) @ v


def nonlinear(finola):
    def step(v, name):
        first, second = finola.get_parameter(name)
        return v + second.T @ gelu(first @ norm(v))

    return step


def norm_moving(finola):
    def step(v, name):
        bn = finola.norms[name]
        n = (v - bn.running_mean) / torch.sqrt(bn.running_var + 1e-6)
        return v + finola.get_parameter(name) @ n

    return step


@pytest.mark.parametrize('origin', [(1, 2), (0, 0), (2, 3)])
@pytest.mark.parametrize('oracle', [linear, nonlinear, norm_moving])
def test_steps_equal_the_loop(oracle, origin):
    finola = module(oracle.__name__).eval()
    for bn in getattr(finola, 'norms', {}).values():
        bn.running_mean.normal_()
        bn.running_var.uniform_(0.5, 2)
    q = vectors()
    z = finola(q, SIZE, None if origin == (1, 2) else origin)
    expected = loop(oracle(finola), q, SIZE, origin)
    torch.testing.assert_close(z, expected, rtol=0, atol=1e-11)


def test_the_plain_loop_with_the_papers_step_is_finola():
    finola = module('norm_linear')

    def step(z, name):
        return functional.norm_linear_step(z, finola.get_parameter(name))

    for origin in (None, (2, 0)):
        z = functional.unroll(step, vectors(), SIZE, origin)
        torch.testing.assert_close(z, finola(vectors(), SIZE, origin), rtol=0, atol=1e-11)


def test_training_normalizes_over_the_batch_and_keeps_averages():
    """On a line of 3 from its left end: two steps by A, taken in both orders, four in all."""
    finola = module('norm_moving').train()
    q = vectors()
    z, mean, var = q.flatten(0, 1), torch.zeros(C), torch.ones(C)  # (N*M, C)
    expected, moments = [z], []
    for _ in range(2):
        moments.append((z.mean(0), z.var(0)))
        n = (z - z.mean(0)) / torch.sqrt(z.var(0, unbiased=False) + 1e-6)
        z = z + n @ finola.A.T
        expected.append(z)
    for batch_mean, batch_var in moments * 2:
        mean, var = 0.9 * mean + 0.1 * batch_mean, 0.9 * var + 0.1 * batch_var
    expected = torch.stack(expected, -1).unflatten(0, (N, M)).sum(1)[:, :, None]
    torch.testing.assert_close(finola(q, (1, 3), (0, 0)), expected, rtol=0, atol=1e-11)
    torch.testing.assert_close(finola.norms['A'].running_mean, mean.double())
    torch.testing.assert_close(finola.norms['A'].running_var, var.double())
    assert finola.norms['B'].num_batches_tracked == 0


def test_repeat():
    finola, q = module('repeat'), vectors()
    assert not list(finola.parameters())
    assert torch.equal(finola(q, SIZE), q.sum(1)[:, :, None, None].expand(-1, -1, *SIZE))
    assert torch.equal(finola(q[:, 0], SIZE)[:, :, 2, 1], q[:, 0])


def test_repeat_matched_takes_one_step_by_each_matrix():
    finola, q = module('repeat_matched'), vectors()
    expected = torch.zeros(N, C, dtype=torch.float64)
    for i, m in itertools.product(range(N), range(M)):
        v = q[i, m]
        for name in NAMES:
            v = v + finola.get_parameter(name) @ norm(v)
        expected[i] += v
    z = finola(q, SIZE)
    assert z.shape == (N, C, *SIZE)
    torch.testing.assert_close(z[:, :, 0, 3], expected, rtol=0, atol=1e-12)
    assert torch.equal(z.amax((2, 3)), z.amin((2, 3)))


@pytest.mark.parametrize('step', ['norm_moving', 'linear', 'nonlinear', 'repeat_matched'])
def test_parameters_are_those_of_finola(step):
    finola = module(step)
    sizes = {name: p.numel() for name, p in finola.named_parameters()}
    assert sizes == dict.fromkeys(NAMES, C * C)
    finola(vectors(), (3, 3)).square().sum().backward()
    assert all(p.grad.any() for p in finola.parameters())


@pytest.mark.parametrize('step', ['norm_moving', 'linear', 'nonlinear', 'repeat'])
def test_under_autocast_the_sums_stay_in_float32(step):
    finola = module(step).float()
    with torch.autocast('cpu', torch.bfloat16):
        q = F.linear(vectors().float(), torch.eye(C))
        assert q.dtype == torch.bfloat16
        assert finola(q, SIZE).dtype == torch.float32


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=shows('step', 'cubic', 'norm_linear', 'norm_moving')):
        FINOLALayer(4, step='cubic')
    with pytest.raises(ValueError, match=shows('step', 'nonlinear', 5)):
        FINOLALayer(5, step='nonlinear')
    with pytest.raises(ValueError, match=shows('origin', (3, 0), '3 x 4')):
        module('linear')(vectors(), SIZE, (3, 0))
    with pytest.raises(ValueError, match=shows('step', "'linear'", "'norm_linear'")):
        module('linear').blockwise(torch.zeros(1, C, 2, 2), (0, 0))
