"""Block-wise FINOLA against the plain double loop over map positions, written from the paper."""

import itertools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from finola_mm.functional import block_mask, finola_blockwise, masked_positions
from tests.functional.single_vector import iterate
from tests.messages import shows

N, C, H, W = 2, 5, 2, 3
OFFSETS = list(itertools.product(range(H + 1), range(W + 1)))


def source(x, start, size):
    """Fig. 4 on one axis: (source position, direction, distance) of map position x."""
    if x < start:  # the partition left of 2*start
        return x + start, -1, start
    if x >= start + size:  # the partition right of it
        return x - (size - start), +1, size - start
    return x, 0, 0


def at_position(feat, offset, y, x, A, A_neg, B, B_neg, steps):
    """Eq. 3 for one map position: feat (C, h, w) -> (C,)."""
    (row, col), (h, w) = offset, feat.shape[1:]
    from_y, dir_y, far_y = source(y, row, h)
    from_x, dir_x, far_x = source(x, col, w)
    if steps == 'block':
        far_y, far_x = min(far_y, 1), min(far_x, 1)
    phi = A if dir_x > 0 else A_neg
    psi = B if dir_y > 0 else B_neg
    z = feat[:, from_y - row, from_x - col]
    x_then_y = iterate(iterate(z, phi, far_x), psi, far_y)
    y_then_x = iterate(iterate(z, psi, far_y), phi, far_x)
    return (x_then_y + y_then_x) / 2


def double_loop(feat, offset, A, A_neg, B, B_neg, steps):
    n, c, h, w = feat.shape
    out = torch.empty(n, c, 2 * h, 2 * w, dtype=feat.dtype)
    for i in range(n):
        for y, x in itertools.product(range(2 * h), range(2 * w)):
            out[i, :, y, x] = at_position(feat[i], offset[i], y, x, A, A_neg, B, B_neg, steps)
    return out


@pytest.fixture
def matrices():
    generator = torch.Generator().manual_seed(0)
    return [0.3 * torch.randn(C, C, generator=generator, dtype=torch.float64) for _ in range(4)]


def features(n, h=H, w=W, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, C, h, w, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize('steps', ['block', 'element'])
def test_equals_the_double_loop_at_every_offset(matrices, steps):
    feat = features(len(OFFSETS))
    out = finola_blockwise(feat, torch.tensor(OFFSETS), *matrices, steps)
    oracle = double_loop(feat, OFFSETS, *matrices, steps)
    torch.testing.assert_close(out, oracle, rtol=0, atol=1e-12)


@pytest.mark.parametrize('steps', ['block', 'element'])
def test_all_81_offsets_of_an_8_by_8_block(matrices, steps):
    """Each of the paper's offsets; at 12 random positions of each, since the loop is slow."""
    offsets = list(itertools.product(range(9), range(9)))
    feat = features(81, 8, 8)
    out = finola_blockwise(feat, torch.tensor(offsets), *matrices, steps)
    picks = torch.randint(0, 16, (81, 12, 2), generator=torch.Generator().manual_seed(2)).tolist()
    for i, offset in enumerate(offsets):
        for y, x in picks[i]:
            oracle = at_position(feat[i], offset, y, x, *matrices, steps)
            torch.testing.assert_close(out[i, :, y, x], oracle, rtol=0, atol=1e-11)


@pytest.mark.parametrize('steps', ['block', 'element'])
def test_batched_equals_single(matrices, steps):
    feat = features(len(OFFSETS))
    batched = finola_blockwise(feat, torch.tensor(OFFSETS), *matrices, steps)
    for i, offset in enumerate(OFFSETS):
        single = finola_blockwise(feat[i : i + 1], offset, *matrices, steps)
        torch.testing.assert_close(batched[i : i + 1], single, rtol=0, atol=1e-13)


def test_visible_positions_hold_the_features_unchanged(matrices):
    feat = features(len(OFFSETS))
    out = finola_blockwise(feat, torch.tensor(OFFSETS), *matrices)
    visible = ~block_mask(torch.tensor(OFFSETS), (H, W))
    shown = out.permute(0, 2, 3, 1)[visible].view(len(OFFSETS), H, W, C).permute(0, 3, 1, 2)
    assert torch.equal(shown, feat)


@pytest.mark.parametrize('steps', ['block', 'element'])
def test_gradients_equal_those_of_the_double_loop(matrices, steps):
    inputs = [tensor.requires_grad_() for tensor in (features(3), *matrices)]
    offset = [(0, 2), (1, 1), (2, 3)]
    weight = torch.randn(3, C, 2 * H, 2 * W, dtype=torch.float64)
    fast = finola_blockwise(inputs[0], torch.tensor(offset), *inputs[1:], steps)
    loop = double_loop(inputs[0], offset, *inputs[1:], steps)
    grads, oracles = (torch.autograd.grad((out * weight).sum(), inputs) for out in (fast, loop))
    for grad, oracle in zip(grads, oracles, strict=True):
        torch.testing.assert_close(grad, oracle, rtol=0, atol=1e-11)


def test_autocast_keeps_statistics_and_sum_in_float32(matrices):
    feat, offset = features(N).float(), torch.tensor([[1, 1], [2, 3]])
    matrices = [matrix.float() for matrix in matrices]
    exact = finola_blockwise(feat, offset, *matrices)
    with torch.autocast('cpu', torch.bfloat16):
        out = finola_blockwise(feat, offset, *matrices)
    assert out.dtype == torch.float32
    # A product in bfloat16 rounds its factors to 8 bits: an error of a few 2^-8 of the *step*.
    # The visible features, which no product touches, must not lose a bit.
    visible = ~block_mask(offset, (H, W))[:, None].expand_as(out)
    assert torch.equal(out[visible], exact[visible])
    step_size = exact - double_loop(feat, offset.tolist(), *(0 * m for m in matrices), 'block')
    assert (out - exact).abs().max() < 4 * 2**-8 * step_size.abs().max()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_low_precision_features_come_back_in_float32(matrices, dtype):
    feat = features(N).to(dtype)
    out = finola_blockwise(feat, (1, 1), *(m.to(dtype) for m in matrices))
    exact = finola_blockwise(feat.double(), (1, 1), *(m.to(dtype).double() for m in matrices))
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('offset', OFFSETS)
def test_mask_against_its_definition(offset):
    row, col = offset
    mask = block_mask(offset, (H, W), n=2)
    assert mask.shape == (2, 2 * H, 2 * W)
    for y, x in itertools.product(range(2 * H), range(2 * W)):
        inside = row <= y < row + H and col <= x < col + W
        assert mask[0, y, x].item() is mask[1, y, x].item() is not inside


def test_mask_of_a_batch_of_offsets():
    mask = block_mask(torch.tensor(OFFSETS), (H, W))
    assert torch.equal(mask, torch.cat([block_mask(offset, (H, W)) for offset in OFFSETS]))


def test_masked_positions_are_those_of_the_mask():
    mask = block_mask(torch.tensor(OFFSETS), (H, W))
    for positions, one in zip(masked_positions(mask), mask.flatten(1), strict=True):
        assert positions.tolist() == [i for i, masked in enumerate(one.tolist()) if masked]


def test_no_product_is_computed_twice(matrices):
    """Of 3hw masked positions hw have two orders: 4hw products of C x C for each image."""
    offsets = [(0, 0), (1, 2), (2, 3), (1, 0)]
    feat = features(len(offsets))
    with FlopCounterMode(display=False) as counter:
        finola_blockwise(feat, torch.tensor(offsets), *matrices)
    assert counter.get_total_flops() == 2 * len(offsets) * 4 * H * W * C**2


@pytest.mark.parametrize(
    ('offset', 'seen'),
    [
        ((3, 0), '(3, 0)'),
        ((0, -1), '(0, -1)'),
        (torch.zeros(3, 2).long(), '(3, 2)'),
        (torch.zeros(2), '(2,)'),
        ((1, 2, 3), '(3,)'),
    ],
)
def test_impossible_offsets_are_refused(matrices, offset, seen):
    with pytest.raises(ValueError, match=shows('offset', seen)):
        finola_blockwise(features(N), offset, *matrices)


def test_wrong_shapes_and_words_are_refused(matrices):
    with pytest.raises(ValueError, match=shows('steps', 'both')):
        finola_blockwise(features(N), (0, 0), *matrices, 'both')
    with pytest.raises(ValueError, match=shows('B_neg', (4, 4))):
        finola_blockwise(features(N), (0, 0), *matrices[:3], torch.zeros(4, 4))
    with pytest.raises(ValueError, match=shows('feat', (C, H, W))):
        finola_blockwise(features(N)[0], (0, 0), *matrices)
