"""FINOLA over a whole map against the plain double loop over its positions, from the paper."""

import itertools

import pytest
import torch

from finola_mm.functional import finola
from tests.functional.single_vector import iterate
from tests.messages import shows

N, C = 2, 5
PLACES = list(itertools.product(range(3), range(4)))
SIZES = [(1, 1), (1, 6), (5, 1), (4, 4), (5, 5), (3, 6), (7, 2)]


def at_position(q, v, u, A, A_neg, B, B_neg):
    """Eq. 3, v rows below and u columns right of q (C,)."""
    phi, psi = (A if u > 0 else A_neg), (B if v > 0 else B_neg)
    x_then_y = iterate(iterate(q, phi, abs(u)), psi, abs(v))
    y_then_x = iterate(iterate(q, psi, abs(v)), phi, abs(u))
    return (x_then_y + y_then_x) / 2


def double_loop(q, matrices, size, origin):
    """q (N, M, C) -> (N, C, H, W)."""
    maps = [
        sum(at_position(path, y - origin[0], x - origin[1], *matrices) for path in image)
        for image in q
        for y, x in itertools.product(*map(range, size))
    ]
    return torch.stack(maps).view(len(q), *size, -1).permute(0, 3, 1, 2)


def vectors(*shape, seed=1):
    return torch.randn(
        *shape, C, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


@pytest.fixture
def matrices():
    generator = torch.Generator().manual_seed(0)
    return [0.3 * torch.randn(C, C, generator=generator, dtype=torch.float64) for _ in range(4)]


@pytest.mark.parametrize('paths', [1, 3])
@pytest.mark.parametrize('origin', PLACES)
def test_equals_the_double_loop_at_every_origin(matrices, origin, paths):
    q = vectors(N, paths)
    expected = double_loop(q, matrices, (3, 4), origin)
    torch.testing.assert_close(finola(q, *matrices, (3, 4), origin), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize('size', SIZES)
def test_equals_the_double_loop_at_many_sizes(matrices, size):
    """From the centre, which is the default, and from two corners."""
    q = vectors(N, 2)
    h, w = size
    for origin in [(h // 2, w // 2), (0, 0), (h - 1, 0)]:
        expected = double_loop(q, matrices, size, origin)
        z = finola(q, *matrices, size, None if origin == (h // 2, w // 2) else origin)
        assert z.shape == (N, C, h, w)
        torch.testing.assert_close(z, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ('row', 'col', 'name'), [(0, 1, 'A'), (0, -1, 'A_neg'), (1, 0, 'B'), (-1, 0, 'B_neg')]
)
def test_each_matrix_has_its_direction(matrices, row, col, name):
    """With the other three at zero only the positions on its side of q differ from q."""
    names = ('A', 'A_neg', 'B', 'B_neg')
    alone = [matrix * (key == name) for key, matrix in zip(names, matrices, strict=True)]
    q = vectors(1)
    moved = (finola(q, *alone, (3, 3)) - q[:, :, None, None]).abs().amax((0, 1)) > 1e-9
    y, x = torch.meshgrid(torch.arange(3) - 1, torch.arange(3) - 1, indexing='ij')
    assert torch.equal(moved, y * row + x * col > 0)


@pytest.mark.parametrize(
    ('size', 'origin'), [((4, 4), (2, 2)), ((3, 4), (1, 3)), ((4, 4), (0, 0)), ((1, 4), (0, 1))]
)
@pytest.mark.parametrize('paths', [1, 3])
def test_gradients_equal_those_of_the_double_loop(matrices, size, origin, paths):
    inputs = [x.requires_grad_() for x in (vectors(N, paths), *matrices)]
    weight = torch.randn(N, C, *size, dtype=torch.float64)
    fast = finola(inputs[0], *inputs[1:], size, origin)
    loop = double_loop(inputs[0], inputs[1:], size, origin)
    grads, oracles = (
        torch.autograd.grad((z * weight).sum(), inputs, materialize_grads=True, allow_unused=True)
        for z in (fast, loop)
    )
    for grad, oracle in zip(grads, oracles, strict=True):
        assert (grad - oracle).norm() <= 1e-9 * oracle.norm()


@pytest.mark.parametrize(('size', 'origin'), [((3, 3), (1, 1)), ((2, 4), (1, 1))])
def test_gradcheck(matrices, size, origin):
    inputs = [x.requires_grad_() for x in (vectors(1, 2), *matrices)]
    assert torch.autograd.gradcheck(lambda *x: finola(*x, size, origin, eps=0.1), inputs)


def test_gradients_of_some_inputs_alone(matrices):
    q, weight = vectors(N).requires_grad_(), torch.randn(N, C, 4, 4, dtype=torch.float64)
    learned = [matrix.clone().requires_grad_() for matrix in matrices]
    both = torch.autograd.grad(finola(q, *learned, (4, 4)), [q, *learned], weight)
    only_q = torch.autograd.grad(finola(q, *matrices, (4, 4)), q, weight)
    only_learned = torch.autograd.grad(finola(q.detach(), *learned, (4, 4)), learned, weight)
    assert all(map(torch.equal, both, (*only_q, *only_learned)))
    assert not finola(q.detach(), *matrices, (4, 4)).requires_grad


def saved_bytes(run):
    sizes = {}

    def pack(tensor):
        sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = run()
    assert out.requires_grad
    return sum(sizes.values())


@pytest.mark.parametrize('paths', [1, 3])
def test_two_maps_for_each_path_are_kept(paths):
    """Beside them 1/sigma, the lines and the matrices, here an eighth."""
    c, size = 64, 32
    q = torch.randn(2, paths, c, requires_grad=True)
    matrices = [torch.randn(c, c) / 8 for _ in range(4)]
    kept = saved_bytes(lambda: finola(q, *matrices, (size, size)))
    one_map = 2 * c * size * size * 4
    assert 1.8 * paths * one_map < kept < 2.25 * paths * one_map


def test_float32_is_close_to_float64(matrices):
    q = vectors(N, 2)
    exact = finola(q, *matrices, (16, 16))
    single = finola(q.float(), *(m.float() for m in matrices), (16, 16))
    assert single.dtype == torch.float32
    assert (single - exact).norm() < 1e-5 * exact.norm()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_low_precision_comes_back_in_float32(matrices, dtype):
    q, matrices = vectors(N).to(dtype), [m.to(dtype) for m in matrices]
    exact = finola(q.double(), *(m.double() for m in matrices), (4, 5))
    z = finola(q, *matrices, (4, 5))
    assert z.dtype == torch.float32
    torch.testing.assert_close(z.double(), exact, rtol=1e-5, atol=1e-5)


def test_autocast_rounds_the_products_alone(matrices):
    q = vectors(N, 2).float().requires_grad_()
    matrices = [m.float().requires_grad_() for m in matrices]
    exact = finola(q, *matrices, (4, 4))
    with torch.autocast('cpu', torch.bfloat16):
        z = finola(q, *matrices, (4, 4))
    assert z.dtype == torch.float32
    assert torch.equal(z[:, :, 2, 2], exact[:, :, 2, 2])  # q itself, no product on the way
    assert not torch.equal(z, exact)
    # At most 4 steps with three roundings to 8 bits (2^-8) each: of both factors and the product.
    # The norm of |M| |n| is at most sqrt(C) times the largest norm of M n.
    bound = 4 * 3 * C**0.5 * 2**-8
    steps = exact - exact[:, :, 2:3, 2:3]
    assert (z - exact).norm() < bound * steps.norm()
    weight = torch.randn(exact.shape, generator=torch.Generator().manual_seed(2))
    for grad, oracle in zip(
        torch.autograd.grad(z, [q, *matrices], weight),
        torch.autograd.grad(exact, [q, *matrices], weight),
        strict=True,
    ):
        assert grad.dtype == torch.float32
        assert (grad - oracle).norm() < bound * oracle.norm()


def test_autocast_leaves_float64_alone(matrices):
    with torch.autocast('cpu', torch.bfloat16):
        z = finola(vectors(N), *matrices, (3, 3))
    assert torch.equal(z, finola(vectors(N), *matrices, (3, 3)))


def test_one_path_and_batch(matrices):
    q = vectors(3)
    z = finola(q, *matrices, (4, 3))
    assert torch.equal(z, finola(q[:, None], *matrices, (4, 3)))
    for i in range(3):
        single = finola(q[i : i + 1], *matrices, (4, 3))
        torch.testing.assert_close(z[i : i + 1], single, rtol=0, atol=1e-13)
    assert finola(q[:0], *matrices, (4, 3)).shape == (0, C, 4, 3)


def test_inputs_and_gradients_in_any_layout(matrices):
    q = vectors(N)
    strided = vectors(2 * N)[::2].copy_(q).requires_grad_()
    transposed = [m.mT.contiguous().mT for m in matrices]
    z = finola(strided, *transposed, (4, 4))
    expected = finola(q.requires_grad_(), *matrices, (4, 4))
    assert torch.equal(z, expected)
    assert z.is_contiguous(memory_format=torch.channels_last)
    weight = torch.randn(4, 4, C, N, dtype=torch.float64).permute(3, 2, 0, 1)
    (grad,) = torch.autograd.grad(z, strided, weight)
    (oracle,) = torch.autograd.grad(expected, q, weight.contiguous())
    assert torch.equal(grad, oracle)


@pytest.mark.gpu
@pytest.mark.parametrize('size', [(8, 8), (5, 9)])
def test_a_gpu_equals_the_cpu(matrices, size):
    inputs = [x.requires_grad_() for x in (vectors(N, 2), *matrices)]
    z, on_gpu = finola(*inputs, size), finola(*(x.cuda() for x in inputs), size)
    torch.testing.assert_close(on_gpu.cpu(), z, rtol=0, atol=1e-11)
    weight = torch.randn_like(z)
    grads = torch.autograd.grad(on_gpu, inputs, weight.cuda())
    for grad, oracle in zip(grads, torch.autograd.grad(z, inputs, weight), strict=True):
        assert (grad - oracle).norm() <= 1e-9 * oracle.norm()
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast('cuda', dtype):
            rounded = finola(*(x.cuda().float() for x in inputs), size)
        assert 0 < (rounded.cpu() - z).norm() < 8 * torch.finfo(dtype).eps * z.norm()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(q=vectors()), shows('q', '(5,)')),
        (dict(q=torch.zeros(2, 4)), shows('A', 'q', (5, 5), (4, 4))),
        (dict(B_neg=torch.zeros(5, 4)), shows('B_neg', (5, 4))),
        (dict(size=(0, 3)), shows('size', (0, 3))),
        (dict(size=4), shows('size', 4)),
        (dict(size=(4.0, 4)), shows('size', (4.0, 4))),
        (dict(origin=(4, 0)), shows('origin', (4, 0), 3, 5)),
        (dict(origin=(0, -1)), shows('origin', (0, -1))),
        (dict(origin=(0, 6)), shows('origin', (0, 6))),
        (dict(origin=2), shows('origin', 2)),
    ],
)
def test_what_does_not_fit_is_refused(matrices, options, message):
    names = ('A', 'A_neg', 'B', 'B_neg')
    fitting = dict(zip(names, matrices, strict=True), q=vectors(N), size=(4, 6))
    with pytest.raises(ValueError, match=message):
        finola(**{**fitting, **options})
