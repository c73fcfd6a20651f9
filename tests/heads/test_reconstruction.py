import pytest
import torch

from finola_mm.heads import ReconstructionHead
from tests.messages import shows


def test_loss_is_the_mean_squared_error_in_float32():
    torch.manual_seed(0)
    pred, images = torch.randn(2, 3, 8, 6).bfloat16(), torch.randn(2, 3, 8, 6)
    loss = ReconstructionHead().loss(pred, images)
    expected = ((pred.double() - images.double()) ** 2).sum() / (2 * 3 * 8 * 6)
    assert loss.dtype == torch.float32
    # 2^-24 for each rounding: three of difference, square and mean, 288 of a sum of positive terms.
    torch.testing.assert_close(loss.double(), expected, rtol=(288 + 3) * 2**-24, atol=0)


def test_reconstruct_is_the_prediction():
    pred = torch.randn(2, 3, 8, 6).bfloat16()
    assert torch.equal(ReconstructionHead().denormalize(pred, pred), pred.float())


def test_another_size_is_refused():
    with pytest.raises(ValueError, match=shows((2, 3, 8, 8), (2, 3, 4, 4))):
        ReconstructionHead().loss(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 8, 8))
