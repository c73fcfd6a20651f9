"""FINOLANeck: what its pool and unroll are made of, many paths, and where q lies."""

import itertools

import pytest
import torch

from finola_mm.errors import UserError
from finola_mm.functional import channel_norm
from finola_mm.necks import FINOLANeck
from tests.messages import shows

BLOCK, SIZE = (2, 3), (5, 4)


def neck(**options):
    torch.manual_seed(0)
    return FINOLANeck(16, 8, size=SIZE, **options).double()


def features():
    """Two maps, of which the last counts."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(8, c, *BLOCK, dtype=torch.float64, generator=generator) for c in (4, 16)]


def test_forward_is_pool_and_unroll():
    model, feats = neck(num_paths=3), features()
    q = model.pool(feats)
    assert q.shape == (8, 3, 8)
    assert torch.equal(q, model.pooling(feats[-1]))
    z = model(feats)
    assert z.shape == (8, 8, *SIZE)
    assert torch.equal(z, model.latent_to_map(q))
    torch.testing.assert_close(z[:, :, 2, 2], q.sum(1), rtol=0, atol=1e-12)  # q at the centre


def test_paths_add_up_and_share_the_matrices():
    one, many = neck(), neck(num_paths=3)
    assert [p.shape for p in one.finola.parameters()] == [p.shape for p in many.finola.parameters()]
    q = torch.randn(2, 3, 8, dtype=torch.float64)
    single = sum(many.latent_to_map(q[:, i]) for i in range(3))
    torch.testing.assert_close(many.latent_to_map(q), single, rtol=0, atol=1e-12)


@pytest.mark.parametrize('step', ['norm_linear', 'linear'])
def test_q_lies_at_the_centre_of_its_block(step):
    """Every offset of the block: each image is unrolled by itself from there."""
    model, feats = neck(step=step, num_paths=2), features()
    offset = torch.tensor(list(itertools.product(range(4), range(2))))
    q, z = model.pool(feats), model(feats, offset)
    for i, (row, col) in enumerate(offset.tolist()):
        expected = model.finola(q[i : i + 1], SIZE, (row + 1, col + 1))  # 2//2 and 3//2
        torch.testing.assert_close(z[i : i + 1], expected, rtol=0, atol=1e-11)


def test_a_block_as_large_as_the_map_is_the_whole_image():
    torch.manual_seed(0)
    model = FINOLANeck(16, 8, size=4).double()
    feats = [torch.randn(2, 16, 4, 4, dtype=torch.float64)]
    z = model(feats, torch.zeros(2, 2, dtype=torch.int64))
    torch.testing.assert_close(z, model(feats), rtol=0, atol=1e-12)


def test_a_given_origin_holds_for_all_images():
    model, feats = neck(origin=(0, 3)), features()
    z = model(feats, torch.zeros(8, 2, dtype=torch.int64))
    assert torch.equal(z, model(feats))
    torch.testing.assert_close(z[:, :, 0, 3], model.pool(feats)[:, 0], rtol=0, atol=1e-12)


def test_gradient_reaches_every_parameter():
    model, feats = neck(num_paths=2), features()
    model(feats, torch.ones(8, 2, dtype=torch.int64)).square().sum().backward()
    assert all(p.grad.any() for p in model.parameters())


def test_sixteen_paths_need_one_matrix_of_a_million():
    """The figure of arXiv 2310.12976: 1 M against the 268 M of one path of 16,384 channels."""
    with torch.device('meta'):
        model = FINOLANeck(2880, 1024, num_paths=16)
    assert model.finola.A.numel() == 1024**2 == 1_048_576
    assert (16 * 1024) ** 2 // 10**6 == 268


@pytest.mark.parametrize('origin', [None, (1, 3)])
def test_the_pooling_of_plane_waves_inverts_their_unrolling(origin):
    """Matrices and pooling start from the same planes, frequencies and position of q."""
    torch.manual_seed(0)
    model = FINOLANeck(8, 8, size=SIZE, max_frequency=2.0, origin=origin).double()
    model.pooling.value.weight.data = model.pooling.out.weight.data.mT  # the features are z itself
    q = channel_norm(torch.randn(3, 1, 8, dtype=torch.float64))
    pooled = model.pool([model.latent_to_map(q)]) / (SIZE[0] * SIZE[1]) ** 0.5
    torch.testing.assert_close(pooled, q, rtol=0, atol=1e-4)  # float32 matrices, eps in the norm


def test_plane_waves_need_the_norm():
    with pytest.raises(UserError, match=shows('norm_linear', 'repeat')):
        FINOLANeck(16, 8, step='repeat', max_frequency=2.0)
