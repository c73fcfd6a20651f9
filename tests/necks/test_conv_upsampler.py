"""ConvUpsampler against Table 10, row by row, and as one function of its input."""

import copy

import pytest
import torch
from torch import nn

from finola_mm.layers import ResConv, UpConv
from finola_mm.necks import ConvUpsampler
from tests.messages import shows

# Table 10, left column: resolution, block, #out.
TABLE_10 = [
    (16, 'res-conv', 512),
    (32, 'up-conv', 512),
    (32, 'res-conv', 256),
    (64, 'up-conv', 256),
    (64, 'res-conv', 256),
    (128, 'up-conv', 256),
    (128, 'res-conv', 128),
    (256, 'up-conv', 128),
    (256, 'res-conv', 128),
    (256, 'conv3x3', 3),
]
SCALES = {16: 16, 32: 8, 64: 4, 128: 2, 256: 1}  # map of an image of 256 -> image over map


def rows(upsampler, z):
    """(resolution, block, #out) of what runs, in its order, as the table has it."""
    seen = []

    def note(name):
        return lambda module, inputs, out: seen.append((out.shape[2], name, out.shape[1]))

    for block in upsampler.blocks:
        name = {ResConv: 'res-conv', UpConv: 'up-conv'}[type(block)]
        block.register_forward_hook(note(name))
        kernels = [m.kernel_size for m in block.modules() if isinstance(m, nn.Conv2d)]
        assert kernels.count((3, 3)) == (2 if name == 'res-conv' else 1)
    upsampler.to_image.register_forward_hook(note('conv3x3'))
    assert upsampler(z).shape == (len(z), 3, 256, 256)
    return seen


@pytest.mark.parametrize('size', SCALES)
def test_the_rows_of_table_10(size):
    """The whole table at 16; from a finer map its tail, without the first row's up-conv."""
    with torch.device('meta'):
        upsampler = ConvUpsampler(3072, scale=SCALES[size])
        seen = rows(upsampler, torch.empty(1, 3072, size, size))
    tail = [row for row in TABLE_10 if row[0] >= size]
    assert seen == [row for row in tail if size == 16 or row[:2] != (size, 'up-conv')]


def test_three_convolutions_are_left_at_full_resolution():
    convs = [m for m in ConvUpsampler(128, scale=1).modules() if isinstance(m, nn.Conv2d)]
    assert [conv.kernel_size for conv in convs] == [(3, 3)] * 3


def test_parameter_count():
    """By hand: 3x3 convolutions with bias, GroupNorm's two, 1x1 shortcuts where widths differ."""

    def conv(in_channels, out, k=3):
        return k * k * in_channels * out + out

    def res(in_channels, out):
        shortcut = conv(in_channels, out, 1) if in_channels != out else 0
        return 2 * in_channels + conv(in_channels, out) + 2 * out + conv(out, out) + shortcut

    expected = res(3072, 512) + conv(512, 512) + res(512, 256) + conv(256, 256) + res(256, 256)
    expected += conv(256, 256) + res(256, 128) + conv(128, 128) + res(128, 128)
    expected += 2 * 128 + conv(128, 3)
    with torch.device('meta'):
        upsampler = ConvUpsampler(3072)
    assert sum(p.numel() for p in upsampler.parameters()) == expected


def test_blocks_compute_what_they_say():
    """A residual block written out; an up-conv against its convolution on repeated pixels."""
    torch.manual_seed(0)
    block, x = ResConv(8, 4, num_groups=2).double(), torch.randn(2, 8, 5, 6, dtype=torch.float64)
    y = x
    for norm, _, conv in (block.conv1, block.conv2):
        groups = y.reshape(2, 2, -1)
        var, mean = torch.var_mean(groups, 2, unbiased=False, keepdim=True)
        y = ((groups - mean) / (var + norm.eps).sqrt()).view_as(y)
        y = y / (1 + (-y).exp())
        y = nn.functional.conv2d(y, conv.weight, conv.bias, padding=1)
    y = y + torch.einsum('oi,nihw->nohw', block.shortcut.weight[:, :, 0, 0], x)
    y = y + block.shortcut.bias[:, None, None]
    torch.testing.assert_close(block(x), y, rtol=0, atol=1e-11)
    up = UpConv(8).double()
    large = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = nn.functional.conv2d(large, up.weight, up.bias, padding=1)
    torch.testing.assert_close(up(x), expected, rtol=0, atol=1e-12)


def test_checkpointing_changes_nothing():
    torch.manual_seed(0)
    plain = ConvUpsampler(8, scale=4, widths=(8, 4, 4), num_groups=4)
    lean = copy.deepcopy(plain)
    lean.with_cp = True
    z = torch.randn(2, 8, 4, 6)
    images = [m(z) for m in (plain, lean)]
    assert images[0].shape == (2, 3, 16, 24)
    assert torch.equal(*images)
    for image in images:
        image.square().sum().backward()
    for a, b in zip(plain.parameters(), lean.parameters(), strict=True):
        assert a.grad.any() and torch.equal(a.grad, b.grad)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(scale=32), shows('scale', 32, 5, '1, 2, 4, 8', 16)),
        (dict(scale=3), shows('scale', 3)),
        (dict(scale=1, widths=(20,)), shows(20, 32, 'num_groups')),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ConvUpsampler(64, **options)
