"""Mobile-Former as a backbone: sizes, counts, what is frozen, what is kept."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from finola_mm import MobileFormer
from finola_mm.backbones.mobile_former import ARCHS
from tests.backbones.small_encoder import ALL, FORMS, build, images, settled
from tests.messages import shows

# ---- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'arch, params, madds, published',
    [
        # Counted in M and G at 800 x 1333; published in Table 4 (the two widest: Table 2).
        ('w720', 4.95, 5.50, (4.9, 5.6)),
        ('w1440', 11.80, 20.22, (11.7, 20.4)),
        ('w2880', 25.10, 77.40, (25.0, 77.5)),
        ('w4320', 43.59, 167.21, (43.5, None)),
        ('w5760', 67.61, 291.09, (67.6, None)),
    ],
)
def test_published_counts(arch, params, madds, published):
    with torch.device('meta'):
        model = MobileFormer(arch).eval().requires_grad_(False)
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, 800, 1333))
    count_params = sum(p.numel() for p in model.parameters()) / 1e6
    count_madds = counter.get_total_flops() / 2e9
    assert count_params == pytest.approx(params, abs=0.005)
    assert count_madds == pytest.approx(madds, abs=0.005)
    assert count_params == pytest.approx(published[0], rel=0.02)
    if published[1]:
        assert count_madds == pytest.approx(published[1], rel=0.02)


def test_table_9():
    """Stage ends of the table, twelve blocks, six tokens."""
    ends = {name: [stage[-1][1] for stage in arch['stages']] for name, arch in ARCHS.items()}
    assert ends['w2880'] == [64, 112, 192, 480]
    assert ends['w1440'] == [32, 56, 96, 240]
    assert ends['w720'] == [16, 28, 48, 120]
    assert ends['w5760'] == [128, 224, 384, 960]
    for name in ('w720', 'w1440', 'w2880', 'w4320', 'w5760'):
        assert sum(map(len, ARCHS[name]['stages'])) == 12
        assert ARCHS[name]['tokens'][0] == 6
    assert sum(p.numel() for p in MobileFormer('small').parameters()) < 0.5e6


@pytest.mark.parametrize('size', [(32, 32), (33, 47), (32, 200), (61, 34), (64, 96)])
@pytest.mark.parametrize('form', FORMS)
def test_shapes(size, form):
    model = build(dynamic_relu=form)
    maps, tokens = model(images(2, 3, *size))
    widths = [48, 64, 96, 128, 256]
    for channels, stride, x in zip(widths, (2, 4, 8, 16, 16), maps, strict=True):
        assert x.shape == (2, channels, *(math.ceil(s / stride) for s in size))
        assert x.isfinite().all()
    assert tokens.shape == (2, 6, 64)


def test_the_default_is_one_map():
    (x,) = MobileFormer('small')(images(2, 3, 64, 64))
    assert x.shape == (2, 256, 4, 4)
    assert (x < 0).any()  # no activation after the last norm


def test_batch_of_one_trains():
    maps, tokens = build()(images(1, 3, 32, 32))
    (maps[-1].sum() + tokens.sum()).backward()


@pytest.mark.parametrize('out_indices', [(0,), (2,), (3,), (1, 3), (3, 0), (4,)])
def test_nothing_unread_is_built(out_indices):
    """The chosen maps are those of the whole encoder; every parameter there is gets a gradient."""
    whole = build().eval()
    part = build(out_indices=out_indices).eval()
    part.load_state_dict({k: v for k, v in whole.state_dict().items() if k in part.state_dict()})
    x = images(2, 3, 64, 64)
    maps = part(x)[0]
    for index, got in zip(out_indices, maps, strict=True):
        assert torch.equal(got, whole(x)[0][index])
    sum(m.square().sum() for m in maps).backward()
    missing = {name for name, p in part.named_parameters() if p.grad is None}
    assert missing == ({'tokens'} if out_indices == (0,) else set())


def test_an_arch_of_ones_own():
    arch = dict(
        tokens=[4, 32],
        stem=8,
        stages=[[[16, 8]], [[16, 12]], [[24, 16]], [[32, 20], [40, 24]]],
        out=40,
    )
    maps, tokens = MobileFormer(arch, ALL, True)(images(2, 3, 40, 40))
    assert [m.shape[1] for m in maps] == [8, 12, 16, 24, 40]
    assert tokens.shape == (2, 4, 32)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(arch='w999'), shows('arch', 'w720', 'w999')),
        (dict(arch=dict(stem=3)), shows('arch', ['out', 'stages', 'stem', 'tokens'], dict(stem=3))),
        (dict(arch='small', out_indices=(5,)), shows('out_indices', '(5,)')),
        (dict(arch='small', out_indices=()), shows('out_indices', '()')),
        (dict(arch='small', frozen_stages=6), shows('frozen_stages', -1, 5, 6)),
        (
            dict(arch='small', dynamic_relu='static'),
            shows('dynamic_relu', 'plain', 'spatial', 'static'),
        ),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MobileFormer(**options)


# ---- frozen parts --------------------------------------------------------------------------------


def expected_frozen(name, stages):
    """Whether an entry of the state dict belongs to what frozen_stages=stages covers."""
    parts = ['stem', 'tokens', *(f'stages.{i}' for i in range(stages))] if stages >= 0 else []
    return stages == 5 or any(name == p or name.startswith(p + '.') for p in parts)


@pytest.mark.parametrize('stages', range(-1, 6))
def test_frozen_parts_keep_every_bit(stages):
    model = build(frozen_stages=stages)
    before = copy.deepcopy(model.state_dict())
    assert model.train() is model
    trainable = [p for p in model.parameters() if p.requires_grad]
    maps, tokens = model(images(4, 3, 64, 64))
    if stages < 5:
        (sum(m.square().mean() for m in maps) + tokens[:, 1].sum()).backward()
        torch.optim.AdamW(trainable, lr=0.1, weight_decay=0.1).step()
    for name, after in model.state_dict().items():
        same = torch.equal(after, before[name])
        assert same == (expected_frozen(name, stages) or name == 'dynamic_relu_form'), name
    assert all(
        p.requires_grad != expected_frozen(name, stages) for name, p in model.named_parameters()
    )
    assert model.eval() is model and not any(m.training for m in model.modules())


def test_norm_eval():
    model = build(norm_eval=True).train()
    before = {name: b.clone() for name, b in model.named_buffers()}
    maps, _ = model(images(4, 3, 64, 64))
    maps[-1].sum().backward()
    assert model.training
    assert all(torch.equal(b, before[name]) for name, b in model.named_buffers())
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('with_cp', [False, True])
def test_a_frozen_encoder_keeps_nothing_for_the_backward_pass(form, with_cp):
    kept = []
    model = build(frozen_stages=5, dynamic_relu=form, with_cp=with_cp).train()
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda t: t):
        maps, tokens = model(images(2, 3, 64, 64))
    assert not kept
    assert not any(t.requires_grad for t in (*maps, tokens))
    assert not any(m.training for m in model.modules())


def test_places_for_decay_by_layer():
    """Stem and tokens 0, the four blocks 1 to 4, the final convolution 5, a head 6."""
    model = build()
    prefixes = ['stages.0.0.', 'stages.1.0.', 'stages.2.0.', 'stages.3.0.', 'out.']
    for name, _ in model.named_parameters():
        (place,) = [i for i, p in enumerate(prefixes, 1) if name.startswith(p)] or [0]
        assert model.get_layer_depth(name) == (place, 7)
        assert model.get_layer_depth(f'backbone.{name}', 'backbone.') == (place, 7)
    assert model.get_layer_depth('head.fc.weight', 'backbone.') == (6, 7)
    assert build(out_indices=(2,)).get_layer_depth('stages.2.0.x') == (3, 5)


# ---- activation checkpointing --------------------------------------------------------------------


def step(model, x, amp):
    """Loss, gradients, buffers of one training step, and the bytes kept for the backward pass."""
    kept = {}

    def pack(t):
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        with torch.autocast('cpu', torch.bfloat16, enabled=amp):
            maps, tokens = model(x)
            loss = sum(m.float().square().mean() for m in maps) + tokens.float()[:, 1].sum()
    loss.backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    return loss, grads, dict(model.named_buffers()), sum(kept.values())


@pytest.mark.parametrize('amp', [False, True])
@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('frozen', [-1, 2])
def test_checkpointing_changes_no_bit(form, frozen, amp):
    x = images(4, 3, 64, 64)
    options = dict(dynamic_relu=form, frozen_stages=frozen)
    loss, grads, buffers, kept = step(build(**options), x, amp)
    loss_cp, grads_cp, buffers_cp, kept_cp = step(build(with_cp=True, **options), x, amp)
    assert torch.equal(loss, loss_cp)
    for name, grad in grads.items():
        assert grad is grads_cp[name] is None or torch.equal(grad, grads_cp[name]), name
    for name, buffer in buffers.items():
        assert torch.equal(buffer, buffers_cp[name]), name
    assert buffers_cp['out.1.num_batches_tracked'] == 1
    assert kept_cp < kept / 2


# ---- state dict and registries -------------------------------------------------------------------


def test_state_dict_round_trip(tmp_path):
    x = images(2, 3, 64, 64)
    model = settled(build(), x)
    torch.save(model.state_dict(), tmp_path / 'encoder.pth')
    other = MobileFormer('small', ALL, True).eval()
    other.load_state_dict(torch.load(tmp_path / 'encoder.pth', weights_only=True))
    assert all(torch.equal(a, b) for a, b in zip(model(x)[0], other(x)[0], strict=True))


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
@pytest.mark.parametrize('strict', [True, False])
def test_the_other_form_of_dynamic_relu_is_refused(prefix, strict):
    """Silence would be worse than a crash: every tensor fits, and the outputs differ."""
    plain, spatial = build(), build(dynamic_relu='spatial')
    state = {prefix + key: value for key, value in plain.state_dict().items()}
    target = nn.ModuleDict({'backbone': spatial}) if prefix else spatial
    with pytest.raises(ValueError, match=shows("dynamic_relu='plain'", 'spatial')):
        target.load_state_dict(state, strict=strict)
    del state[prefix + 'dynamic_relu_form']
    target.load_state_dict(state, strict=False)
    x = images(2, 3, 64, 64)
    assert not torch.allclose(spatial(x)[0][-1], plain(x)[0][-1], atol=1e-3)


def test_pretrained_weights_through_mmengine(tmp_path):
    """``init_cfg`` loads non-strictly, and still refuses the other form."""
    source = build()
    state = {f'backbone.{key}': value for key, value in source.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'run.pth')
    init = dict(type='Pretrained', checkpoint=str(tmp_path / 'run.pth'), prefix='backbone.')
    model = MobileFormer('small', init_cfg=init)
    model.init_weights()
    assert torch.equal(
        model.stages[3][0].former.query.weight, source.stages[3][0].former.query.weight
    )
    with pytest.raises(ValueError, match='dynamic_relu'):
        MobileFormer('small', dynamic_relu='spatial', init_cfg=init).init_weights()


def test_initialization():
    """Convolutions N(0, 2 / fan_out), linear layers N(0, 0.01), neutral norms, tokens N(0, 1)."""
    model = MobileFormer('w720', ALL)
    model.init_weights()
    expand = model.stages[3][5].mobile.expand[0].weight  # 1x1, 120 -> 720
    depthwise = model.stages[3][5].mobile.filter[0].weight  # 3x3, 720 channels
    linear = model.stages[3][5].former.ffn[0]
    assert expand.std().item() == pytest.approx((2 / 720) ** 0.5, rel=0.02)
    assert depthwise.std().item() == pytest.approx((2 / (9 * 720)) ** 0.5, rel=0.05)
    assert linear.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert linear.bias.abs().sum() == 0
    assert model.tokens.std().item() == pytest.approx(1, rel=0.1)
    assert all((m.weight == 1).all() for m in model.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize('size', [64, 256])
def test_activations_start_in_range(size):
    """Neither exploding nor vanishing at the start, on a crop as on an image."""
    with torch.no_grad():
        maps, tokens = build(lively=False)(images(4, 3, size, size))
    assert all(0.5 < m.std() < 3 for m in maps)
    assert 0.5 < tokens.std() < 2
