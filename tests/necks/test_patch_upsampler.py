import torch

from finola_mm.functional import gather_tokens, image_to_patches
from finola_mm.necks import PatchUpsampler


def test_each_position_becomes_its_patch():
    torch.manual_seed(0)
    upsampler = PatchUpsampler(8, patch_size=4).double()
    z = torch.randn(2, 8, 3, 5, dtype=torch.float64)
    image = upsampler(z)
    assert image.shape == (2, 3, 12, 20)
    weight, bias = upsampler.to_patch.weight, upsampler.to_patch.bias
    for row, col in [(0, 0), (2, 4), (1, 3)]:
        patch = (weight @ z[1, :, row, col] + bias).view(3, 4, 4)
        seen = image[1, :, 4 * row : 4 * row + 4, 4 * col : 4 * col + 4]
        torch.testing.assert_close(seen, patch, rtol=0, atol=1e-12)


def test_it_computes_only_what_is_asked_for():
    torch.manual_seed(0)
    upsampler = PatchUpsampler(8, patch_size=4).double()
    z = torch.randn(2, 8, 3, 5, dtype=torch.float64)
    positions = torch.tensor([[0, 3, 14], [7, 8, 2]])
    whole = gather_tokens(image_to_patches(upsampler(z), 4), positions)
    torch.testing.assert_close(upsampler(z, positions), whole, rtol=0, atol=1e-12)


def test_parameter_count_of_table_10():
    """One linear layer from C channels to 16 x 16 x 3."""
    assert sum(p.numel() for p in PatchUpsampler(2880).parameters()) == (2880 + 1) * 16 * 16 * 3
