import pytest
import torch

from finola_mm.functional import plane_waves
from finola_mm.layers import PlaneWavePooling
from tests.messages import shows

SIZE, ORIGIN, FREQUENCY = (6, 8), (3, 4), 2.0


def test_the_result_is_the_least_squares_vector():
    """Its plane waves, sampled where the features lie, are closest to the features."""
    torch.manual_seed(0)
    height, width = SIZE
    pooling = PlaneWavePooling(
        5, 10, size=SIZE, origin=ORIGIN, max_frequency=FREQUENCY, num_vectors=2
    ).double()
    basis = pooling.out.weight.data
    x = torch.randn(3, 5, height, width, dtype=torch.float64)
    features = torch.einsum('mdc,nchw->mhwdn', pooling.value.weight.unflatten(0, (2, 10)), x)
    features = torch.einsum('dc,mhwcn->mhwdn', basis, features)
    turn_x, turn_y = (plane_waves(10, FREQUENCY)[name] + torch.eye(10) for name in ('A', 'B'))
    turns = torch.cat(
        [
            torch.linalg.matrix_power(turn_x, column - ORIGIN[1])
            @ torch.linalg.matrix_power(turn_y, row - ORIGIN[0])
            for row in range(height)
            for column in range(width)
        ]
    )  # (H * W * C, C)
    q = pooling(x)
    for m in range(2):
        closest = torch.linalg.lstsq(turns, features[m].flatten(0, 2)).solution.mT
        expected = closest * (height * width) ** 0.5
        torch.testing.assert_close(q[:, m], expected, rtol=1e-5, atol=1e-5)  # float32 frequencies


def test_coarse_features_lie_at_the_centres_of_their_cells():
    """Cells of 3 x 4 positions have the mean phase of their positions."""
    fine, coarse = (
        PlaneWavePooling(4, 4, size=SIZE, origin=ORIGIN, max_frequency=FREQUENCY).phases(*shape)
        for shape in (SIZE, (2, 2))
    )
    expected = fine.view(2, 3, 2, 4, 2).mean((1, 3)).flatten(0, 1)
    torch.testing.assert_close(coarse, expected)


def test_all_parameters_have_gradients():
    pooling = PlaneWavePooling(4, 6, size=SIZE, origin=ORIGIN, max_frequency=FREQUENCY)
    pooling(torch.randn(2, 4, 3, 3)).square().sum().backward()
    assert all(parameter.grad.any() for parameter in pooling.parameters())


def test_refuses_an_odd_number_of_channels():
    with pytest.raises(ValueError, match=shows('even', 7)):
        PlaneWavePooling(4, 7, size=SIZE, origin=ORIGIN, max_frequency=FREQUENCY)
