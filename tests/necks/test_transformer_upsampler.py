"""TransformerUpsampler: no positional embedding, single patches, parameters of Table 10."""

import pytest
import torch

from finola_mm.errors import UserError
from finola_mm.functional import gather_tokens, image_to_patches
from finola_mm.necks import TransformerUpsampler
from tests.messages import shows


def test_upsampler_has_no_positions():
    """Without positional embedding it commutes with every permutation of the positions."""
    torch.manual_seed(0)
    upsampler = TransformerUpsampler(8, 16, depth=2, num_heads=4, patch_size=4).double()
    z = torch.randn(2, 8, 3, 5, dtype=torch.float64)
    order = torch.randperm(15)
    shuffled = z.flatten(2)[:, :, order].view_as(z)

    def patches(image):  # (N, 3, 12, 20) -> (N, 15, 3*4*4)
        return image.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(2, 15, 48)

    image = upsampler(z)
    assert image.shape == (2, 3, 12, 20)
    expected = patches(image)[:, order]
    torch.testing.assert_close(patches(upsampler(shuffled)), expected, rtol=0, atol=1e-12)


def test_upsampler_computes_only_what_is_asked_for():
    """Selected patches are those of the whole image, and so are their gradients."""
    torch.manual_seed(0)
    upsampler = TransformerUpsampler(8, 16, depth=2, num_heads=4, patch_size=4).double()
    z = torch.randn(2, 8, 3, 5, dtype=torch.float64, requires_grad=True)
    positions = torch.tensor([[0, 3, 14], [7, 8, 2]])
    whole = gather_tokens(image_to_patches(upsampler(z), 4), positions)
    patches = upsampler(z, positions)
    torch.testing.assert_close(patches, whole, rtol=0, atol=1e-12)
    weight = torch.randn_like(patches)
    grads = [torch.autograd.grad((out * weight).sum(), z)[0] for out in (patches, whole)]
    torch.testing.assert_close(*grads, rtol=0, atol=1e-12)


def test_parameter_count_of_table_10():
    """6 blocks of width 512, 12 D^2 + 13 D each; embedding, norm and linear to 16 x 16 x 3."""
    upsampler = TransformerUpsampler(2880)
    d = 512
    expected = 6 * (12 * d**2 + 13 * d) + (2880 + 1) * d + 2 * d + (d + 1) * 768
    assert sum(p.numel() for p in upsampler.parameters()) == expected


@pytest.mark.parametrize('arguments', [dict(depth=0), dict(num_heads=7)])
def test_invalid_arguments_are_rejected(arguments):
    (value,) = arguments.values()
    with pytest.raises(UserError, match=shows(value)):
        TransformerUpsampler(8, 16, **arguments)
