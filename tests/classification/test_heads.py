"""The decoders against what they are said to compute, written out in float64."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from torch import nn

from finola_mm.classification import LinearProbeHead, TransformerHead
from tests.messages import shows

N, C, D, K = 5, 12, 8, 7  # images, channels of the map, width of the tokens, classes


@pytest.fixture(autouse=True)
def mmpretrain_scope():
    init_default_scope('mmpretrain')


def features(seed=0):
    """What MobileFormer(out_indices=(3, 4), with_tokens=True) gives: (maps, tokens)."""
    generator = torch.Generator().manual_seed(seed)
    earlier = torch.randn(N, 3, 6, 4, generator=generator)
    last = torch.randn(N, C, 3, 2, generator=generator)
    tokens = torch.randn(N, 6, D, generator=generator)
    return (earlier.double(), last.double()), tokens.double()


def lin(**options):
    torch.manual_seed(0)
    return LinearProbeHead(K, C, D, **options).double()


def tran(depth=2, **options):
    torch.manual_seed(0)
    return TransformerHead(K, C, D, 16, num_heads=4, depth=depth, **options).double()


def test_lin_is_a_linear_layer_on_whitened_features():
    head = lin().train()
    (_, x), tokens = features()
    read = torch.stack(
        [torch.cat((x[i].sum((1, 2)) / 6, tokens[i, 0])) for i in range(N)]
    )  # (N, C + D)
    white = (read - read.mean(0)) / (read.var(0, unbiased=False) + 1e-6).sqrt()
    expected = white @ head.fc.weight.T + head.fc.bias
    torch.testing.assert_close(head(features()), expected)
    assert {name for name, _ in head.named_parameters()} == {'fc.weight', 'fc.bias'}


def test_lin_in_eval_mode_uses_the_statistics_of_training():
    head = lin()
    for _ in range(300):
        head.train()(features())
    (_, x), tokens = features()
    read = torch.cat((x.mean((2, 3)), tokens[:, 0]), 1)
    expected = (read - read.mean(0)) / (read.var(0) + 1e-6).sqrt()
    torch.testing.assert_close(head.eval().pre_logits(features()), expected)


def vit_block(block, x):
    """A pre-norm block by torch's own layer, with the weights of ours."""
    layer = nn.TransformerEncoderLayer(
        x.shape[-1], block.num_heads, 4 * x.shape[-1], 0, 'gelu', batch_first=True, norm_first=True
    ).double()
    layer.self_attn.in_proj_weight.data, layer.self_attn.in_proj_bias.data = (
        block.qkv.weight.data,
        block.qkv.bias.data,
    )
    for ours, theirs in (
        (block.proj, layer.self_attn.out_proj),
        (block.norm1, layer.norm1),
        (block.norm2, layer.norm2),
        (block.mlp[0], layer.linear1),
        (block.mlp[2], layer.linear2),
    ):
        theirs.load_state_dict(ours.state_dict())
    return layer(x)


@pytest.mark.parametrize('depth', [1, 4])
def test_tran_is_vit_blocks_without_positions(depth):
    head = tran(depth, dropout=0.3).eval()
    for p in head.parameters():  # norms and biases differ from neutral
        p.data += 0.1 * torch.randn_like(p)
    (_, x), tokens = features()
    z = x.flatten(2).mT @ head.embed.weight.T + head.embed.bias
    for block in head.blocks:
        z = vit_block(block, z)
    z = F.layer_norm(z, (16,), head.norm.weight, head.norm.bias).mean(1)
    expected = torch.cat((z, tokens[:, 0]), 1) @ head.fc.weight.T + head.fc.bias
    torch.testing.assert_close(head(features()), expected)


def test_tran_drops_classifier_inputs_in_training_only():
    head = tran(dropout=0.25)
    assert (head.eval().pre_logits(features()) != 0).all()
    torch.manual_seed(1)
    outs = [head.train().pre_logits(features()) == 0 for _ in range(100)]
    assert torch.stack(outs).double().mean().item() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize('head', [lin, tran])
def test_maps_alone_are_refused(head):
    maps, _ = features()
    for feats in (maps, maps[-1:]):
        with pytest.raises(ValueError, match='with_tokens=True'):
            head()(feats)


@pytest.mark.parametrize('head', [lin, tran])
def test_an_encoder_of_other_widths_is_refused(head):
    maps, tokens = features()
    wide = torch.cat((maps[-1], maps[-1]), 1)
    with pytest.raises(ValueError, match=shows(2 * C, f'in_channels={C}', f'token_channels={D}')):
        head()(((maps[0], wide), tokens))


def test_width_that_does_not_divide():
    with pytest.raises(ValueError, match=shows(20, 3)):
        TransformerHead(K, C, D, 20, num_heads=3)


@pytest.mark.parametrize('head', [lin, tran])
def test_initialization(head):
    """The classifier starts so small that all classes are about equally likely."""
    head = head()
    assert head.fc.weight.std().item() == pytest.approx(0.01, rel=0.3)
    assert head.fc.bias.abs().sum() == 0
    assert head(features()).softmax(1).std() < 0.02
