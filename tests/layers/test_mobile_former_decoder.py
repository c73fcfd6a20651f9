"""The decoder against its equations in float64, padded images against the same alone, its sizes."""

import math
from collections import Counter
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

from finola_mm.functional import downsample_mask, make_padding_mask, sine_positions
from finola_mm.functional.compat import math_attention
from finola_mm.layers import MobileFormerDecoder
from finola_mm.layers.mobile_former_decoder import (
    DecoderBlock,
    DecoderState,
    Downsample,
    MaskedBottleneck,
    describe_padding,
    placement,
)
from tests.messages import shows

CHANNELS = (6, 10)  # of the maps at stride 8 and 16
D, HEADS, HIDDEN, Q = 8, 2, 16, 5


def decoder(arch='211', dropout=0.0, **kwargs):
    torch.manual_seed(0)
    options = dict(num_queries=Q, dim=D, heads=HEADS, hidden=HIDDEN, dropout=dropout) | kwargs
    model = MobileFormerDecoder(arch, CHANNELS, **options).double()
    for module in model.modules():  # statistics and affine parameters that can be told apart
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.normal_(module.bias)
    return model


def maps(size, n=1):
    """The two maps of an encoder, the first with ``size`` positions."""
    half = [math.ceil(side / 2) for side in size]
    sizes = zip(CHANNELS, (size, half), strict=True)
    return [torch.randn(n, channels, *s, dtype=torch.double) for channels, s in sizes]


# The equations of the structure, one image at a time: z, p (Q, D); x (D, H, W) with sine s.


def linear(layer, v):
    return v @ layer.weight.T + layer.bias


def norm(layer, v):
    v = v - v.mean(-1, keepdim=True)
    return v / (v.square().mean(-1, keepdim=True) + layer.eps).sqrt() * layer.weight + layer.bias


def mha(layer, q, k, v):
    wq, wk, wv = layer.in_proj_weight.chunk(3)
    bq, bk, bv = layer.in_proj_bias.chunk(3)
    q, k, v = q @ wq.T + bq, k @ wk.T + bk, v @ wv.T + bv
    size, reads = D // HEADS, []
    for h in range(HEADS):
        part = slice(h * size, (h + 1) * size)
        logits = q[:, part] @ k[:, part].T / math.sqrt(size)
        weights = logits.exp() / logits.exp().sum(1, keepdim=True)
        reads.append(weights @ v[:, part])
    return linear(layer.out_proj, torch.cat(reads, 1))


def ffn(layer, v):
    return linear(layer[3], linear(layer[0], v).clamp(min=0))


def conv_bn(layer, x):
    """Convolution and BatchNorm in evaluation, of x (C, H, W); depthwise output o reads o % C."""
    conv, bn = layer
    if conv.kernel_size == (3, 3):
        channels, (h, w) = len(x), x.shape[1:]
        x = F.pad(x, (1, 1, 1, 1))
        stride = conv.stride[0]
        y = torch.zeros(conv.out_channels, math.ceil(h / stride), math.ceil(w / stride)).double()
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                window = x[:, i * stride : i * stride + 3, j * stride : j * stride + 3]
                window = window.repeat(conv.out_channels // channels, 1, 1)
                y[:, i, j] = (window * conv.weight[:, 0]).sum((1, 2))
    else:
        y = torch.einsum('oc,chw->ohw', conv.weight[:, :, 0, 0], x)
    scale = bn.weight / (bn.running_var + bn.eps).sqrt()
    return (y - bn.running_mean[:, None, None]) * scale[:, None, None] + bn.bias[:, None, None]


def block_oracle(m, z, p, x, s):
    rows, s = x.flatten(1).T, s.flatten(0, 1)
    z = norm(m.to_former.norm, z + mha(m.to_former.attention, z + p, rows + s, rows))
    f = m.former
    z = norm(f.norm1, z + mha(f.attention, z + p, z + p, z))
    z = norm(f.norm2, z + ffn(f.ffn, z))
    if m.skip_map_update:
        return z, p, x
    if m.map_attention:
        f = m.mobile
        rows = norm(f.norm1, rows + mha(f.attention, rows + s, rows + s, rows))
        rows = norm(f.norm2, rows + ffn(f.ffn, rows))
    else:
        y = conv_bn(m.mobile.filter, x).clamp(0, 6)
        rows = (x + conv_bn(m.mobile.project, y)).flatten(1).T
    rows = norm(m.to_mobile.norm, rows + mha(m.to_mobile.attention, rows + s, z + p, z))
    p = p + linear(m.pos_update[2], linear(m.pos_update[0], z).clamp(min=0))
    return z, p, rows.T.reshape(x.shape)


@pytest.mark.parametrize('kind', ['plus', 'minus', 'last'])
def test_block_by_its_equations(kind):
    torch.manual_seed(0)
    block = DecoderBlock(
        D,
        map_attention=kind == 'plus',
        heads=HEADS,
        hidden=HIDDEN,
        dropout=0.1,
        skip_map_update=kind == 'last',
    )
    block = block.double().eval()
    state = DecoderState(*(torch.randn(2, *s).double() for s in ((Q, D), (Q, D), (D, 3, 4))))
    sine = sine_positions(torch.zeros(1, 3, 4, dtype=torch.bool), D).double()
    pos_embed = sine.flatten(1, 2)
    new = block(state, placement(pos_embed) if kind == 'plus' else pos_embed)
    for n in range(2):
        expected = block_oracle(block, *(part[n] for part in state), sine[0])
        for got, want in zip(new, expected, strict=True):
            torch.testing.assert_close(got[n], want)


def test_decoder_by_its_equations():
    model, feats = decoder().eval(), maps((7, 6))
    (f8, f16), down = (f[0] for f in feats), model.down
    z, p = torch.zeros(Q, D).double(), model.positions
    x = conv_bn(down.project, conv_bn(down.filter, f16))
    expected = []
    for scale, feat in ((0, None), (1, f16), (2, f8)):
        if feat is not None:
            up = model.ups[scale - 1]
            grown = F.interpolate(x[None], scale_factor=2, mode='bilinear')
            grown = grown[:, :, : feat.shape[1], : feat.shape[2]]
            x = (up.up(grown) + up.lateral(feat[None]))[0]
        s = sine_positions(torch.zeros(1, *x.shape[1:], dtype=torch.bool), D)[0].double()
        for block in model.scales[scale]:
            z, p, x = block_oracle(block, z, p, x, s)
            expected.append(z)
    torch.testing.assert_close(model(feats)[:, 0], torch.stack(expected))


# Padding. Sizes of the first map; the batch is (11, 9).
SIZES = [(11, 9), (6, 9), (11, 4), (5, 5), (1, 1)]
SHAPE = (11, 9)


@pytest.fixture
def padded():
    """Five images alone, and as one batch with its mask; large numbers where it is padded."""
    torch.manual_seed(1)
    alone = [maps(size) for size in SIZES]
    batch = []
    for scale, shape in enumerate((SHAPE, (6, 5))):
        rows = []
        for feats in alone:
            x = feats[scale]
            pad = (0, shape[1] - x.shape[3], 0, shape[0] - x.shape[2])
            rows.append(F.pad(x, pad, value=1e3))
        batch.append(torch.cat(rows))
    return alone, batch, make_padding_mask(SIZES, SHAPE)


@pytest.mark.parametrize('arch', ['211', '522'])
def test_a_padded_image_gives_what_it_gives_alone(padded, arch):
    alone, batch, mask = padded
    model = decoder(arch).eval()
    queries = model(batch, mask)
    for n, feats in enumerate(alone):
        torch.testing.assert_close(queries[:, n], model(feats)[:, 0])


@pytest.mark.parametrize('training', [False, True])
def test_padded_positions_change_nothing(padded, training):
    """Not the queries, not the gradients, not the statistics."""
    _, batch, mask = padded
    results = []
    for junk in (0.0, -7.0, float('nan'), float('inf')):
        model = decoder().train(training)
        feats = [x.clone() for x in batch]
        for x, m in zip(feats, (mask, downsample_mask(mask)), strict=True):
            x.masked_fill_(m[:, None], junk)
        queries = model(feats, mask)
        queries.square().sum().backward()
        state = [*model.state_dict().values(), *(p.grad for p in model.parameters())]
        results.append([queries.detach(), *state])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


def test_without_the_mask_they_would(padded):
    """The test above can fail."""
    alone, batch, _ = padded
    model = decoder().eval()
    assert (model(batch)[:, 1] - model(alone[1])[:, 0]).abs().max() > 0.1


def test_batch_norm_counts_positions_of_images_only(padded):
    _, (_, f16), mask = padded
    down = Downsample(CHANNELS[1], D).double().train()
    mask16, mask32 = downsample_mask(mask), downsample_mask(mask, 4)
    f16 = f16.masked_fill(mask16[:, None], 0)
    down(f16, describe_padding(mask32, f16))
    filtered = down.filter[0](f16)
    valid = [x[:, ~m] for x, m in zip(filtered, mask32, strict=True)]
    valid = torch.cat(valid, dim=1)  # (C, positions)
    momentum = down.filter[1].momentum
    torch.testing.assert_close(down.filter[1].running_mean, momentum * valid.mean(1))
    torch.testing.assert_close(down.filter[1].running_var, 1 - momentum + momentum * valid.var(1))


@pytest.mark.parametrize('make', [partial(Downsample, 3, D), partial(MaskedBottleneck, 3, 6, 3)])
def test_batch_norm_of_a_padded_image_is_that_of_the_image_alone(make):
    """In training: outputs, gradients and statistics."""
    torch.manual_seed(0)
    layers = [make().double() for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    images = [torch.randn(1, 3, 5, 6).double().requires_grad_()]
    images.append(F.pad(images[0].detach(), (0, 3, 0, 4)).requires_grad_())
    stride = layers[0].filter[0].stride[0]
    mask = downsample_mask(make_padding_mask([(5, 6)], (9, 9)), stride)
    paddings = [None, describe_padding(mask, images[1])]
    alone, padded = (f(x, p) for f, x, p in zip(layers, images, paddings, strict=True))
    h, w = alone.shape[2:]
    torch.testing.assert_close(padded[:, :, :h, :w], alone)
    for y in (alone, padded):
        y[:, :, :h, :w].pow(3).sum().backward()
    torch.testing.assert_close(images[1].grad[:, :, :5, :6], images[0].grad)
    gradients = [[p.grad for p in layer.parameters()] for layer in layers]
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(layers[1].state_dict(), layers[0].state_dict())


def test_batches_can_be_permuted(padded):
    _, batch, mask = padded
    model, order = decoder().eval(), torch.tensor([3, 0, 4, 2, 1])
    expected = model(batch, mask)[:, order]
    torch.testing.assert_close(model([x[order] for x in batch], mask[order]), expected)


@pytest.mark.parametrize('size', [(1, 1), (2, 3), (5, 2), (13, 8)])
def test_any_size(size):
    assert decoder().eval()(maps(size, 2)).shape == (4, 2, Q, D)


@pytest.mark.parametrize('dropout', [0.0, 0.3])
def test_gradients_reach_every_parameter(padded, dropout):
    _, batch, mask = padded
    model = decoder(dropout=dropout)
    model(batch, mask).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # A key's bias shifts all logits of a query alike: the softmax does not see it.
        value = parameter.grad.chunk(3)[0] if name.endswith('in_proj_bias') else parameter.grad
        assert value.abs().max() > 0, name


def test_every_block_leaves_its_state(padded):
    _, batch, mask = padded
    model = decoder('522').eval()
    states = model.refine(batch, mask)
    assert [tuple(s.map.shape[2:]) for s in states] == 5 * [(3, 3)] + 2 * [(6, 5)] + 2 * [(11, 9)]
    torch.testing.assert_close(model(batch, mask), torch.stack([s.queries for s in states]))
    pairs = zip(states[:-1], states[1:], strict=True)
    moved = [(a.positions - b.positions).abs().max() for a, b in pairs]
    assert all(m > 0 for m in moved[:-1]) and moved[-1] == 0  # the last block adapts nothing


# Spec: parameters (M) and multiply-adds (G) of decoder and head at 800 x 1333, counted by hand once
# for all; the published ones beside them.
COUNTED = {
    ('522', 2880): (19.29, 35.10, 19.4, 34.6),
    ('522', 1440): (18.51, 32.74, 18.6, 32.3),
    ('522', 720): (18.12, 31.56, 18.2, 31.1),
    ('211', 2880): (9.13, 15.88, 9.2, 15.7),
    ('211', 1440): (8.35, 13.52, 8.4, 13.4),
    ('211', 720): (7.96, 12.34, 8.0, 12.2),
}
STAGE_3 = {2880: 192, 1440: 96, 720: 48}


@pytest.mark.parametrize('arch, width', COUNTED)
def test_the_published_sizes(arch, width):
    params, madds, published_params, published_madds = COUNTED[arch, width]
    with torch.device('meta'):
        model = MobileFormerDecoder(arch, (STAGE_3[width], width)).eval().requires_grad_(False)
        feats = [torch.empty(1, STAGE_3[width], 100, 167), torch.empty(1, width, 50, 84)]
        with FlopCounterMode(display=False) as counter, math_attention():
            model(feats)
    head = 256 * 81 + 2 * 256 * 256 + 256 * 4  # classes, box MLP, without biases
    found_params = sum(p.numel() for p in model.parameters()) + head + 81 + 2 * 256 + 4
    found_madds = counter.get_total_flops() / 2 + 100 * head
    assert found_params / 1e6 == pytest.approx(params, rel=0.01)
    assert found_madds / 1e9 == pytest.approx(madds, rel=0.01)
    assert found_params / 1e6 == pytest.approx(published_params, rel=0.02)
    assert found_madds / 1e9 == pytest.approx(published_madds, rel=0.03)


@pytest.mark.skipif(
    not hasattr(torch, 'get_autocast_dtype'), reason="torch 2.1's profiler loses single events"
)
def test_a_model_that_serves_runs_the_same_operators():
    """Where weights want no gradient, torch multiplies scattered rows one by one."""
    model, feats = decoder().eval(), maps((16, 20))

    def operators():
        with torch.inference_mode(), profile() as run:
            model(feats)
        return Counter(event.name for event in run.events())

    before = operators()
    model.requires_grad_(False)
    assert operators() == before


@pytest.mark.parametrize('arch', ['111', (2, 1), (2, 0, 1)])
def test_bad_archs_are_refused(arch):
    with pytest.raises(ValueError, match=shows('arch', arch, 522, 211)):
        decoder(arch)


def test_maps_that_do_not_fit_are_refused():
    feats = maps((8, 8))
    with pytest.raises(ValueError, match=shows('out_indices', (2, 4), [(8, 8), (5, 5)])):
        decoder()([feats[0], torch.randn(1, 10, 5, 5, dtype=torch.double)])
    with pytest.raises(ValueError, match=shows('out_indices', (2, 4), [(8, 8)])):
        decoder()(feats[:1])
    with pytest.raises(ValueError, match=shows(CHANNELS, 'in_channels=(6, 7)')):
        decoder()([feats[0], torch.randn(1, 7, 4, 4, dtype=torch.double)])
