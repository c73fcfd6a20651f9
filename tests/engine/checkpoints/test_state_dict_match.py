"""Loading weights: all tensors match, or the error names those that do not."""

import copy
import re

import pytest
import torch

from finola_mm import MobileFormer
from finola_mm.engine import CheckpointError, load_weights
from finola_mm.registry import MODELS
from tests.engine.whole import Whole
from tests.messages import shows


@pytest.fixture
def log(monkeypatch):
    """Log lines of loading."""
    lines = []
    monkeypatch.setattr(
        'finola_mm.engine.checkpoints.state_dict_match.print_log',
        lambda text, **options: lines.append(text),
    )
    return lines


def assert_same(module, other):
    ours, theirs = module.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for key, tensor in ours.items():
        assert torch.equal(tensor, theirs[key]), key


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_the_part_is_found(source, write, prefix, log):
    file = write({prefix + key: tensor for key, tensor in source.state_dict().items()})
    whole, encoder = Whole(), MobileFormer('small')
    load_weights(whole, file)
    load_weights(encoder, file)
    assert_same(whole, source)
    assert_same(encoder, source.backbone)
    count = len(encoder.state_dict())
    of_whole, of_encoder = log
    assert re.match(shows(count + 2, 'Whole', file, 'pretrain', 70), of_whole)
    assert re.match(shows(count, 'MobileFormer', 'small', file, 'pretrain', 70), of_encoder)


def test_a_bare_dict_of_the_encoder(source, tmp_path):
    torch.save(source.backbone.state_dict(), tmp_path / 'w.pth')
    encoder = MobileFormer('small')
    assert load_weights(encoder, tmp_path / 'w.pth') == {}
    assert_same(encoder, source.backbone)


def test_an_encoder_without_the_last_layers(source, write, log):
    encoder = MobileFormer('small', out_indices=(1, 2))
    load_weights(encoder, write(source.state_dict()))
    assert 'stages.3' in log[0]
    for key, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, source.backbone.state_dict()[key])
    with pytest.raises(CheckpointError, match=shows(len(encoder.state_dict()), 'stages.3')):
        load_weights(encoder, write(source.state_dict()), allow_unused=False)


def test_missing_tensors(source, write, log):
    state = source.state_dict()
    del state['backbone.tokens']
    file, encoder = write(state), MobileFormer('small')
    before = copy.deepcopy(encoder)
    with pytest.raises(CheckpointError, match=shows(193, 194, 'tokens')):
        load_weights(encoder, file)
    assert_same(encoder, before)
    with pytest.raises(CheckpointError, match=shows(193, 194)):
        load_weights(encoder, file, allow_missing=['stem.*', 'token'])
    with pytest.raises(TypeError, match=shows('allow_missing', 'token*')):
        load_weights(encoder, file, allow_missing='token*')
    load_weights(encoder, file, allow_missing=['stem.*', 'token*'])
    assert re.match(shows(193, 194, 'tokens'), log[0])
    assert torch.equal(encoder.tokens, before.tokens)
    assert torch.equal(encoder.stem[0].weight, source.backbone.stem[0].weight)


def refusal(module, file, **options):
    with pytest.raises(CheckpointError) as caught:
        load_weights(module, file, **options)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_another_arch(source, write):
    """The message shows the recorded size; nothing is loaded, even with allow_missing."""
    wide = dict(
        tokens=(6, 64), stem=16, stages=[[(32, 24)], [(72, 32)], [(96, 48)], [(144, 64)]], out=256
    )
    encoder = MobileFormer(wide)
    before = copy.deepcopy(encoder)
    file = write(source.state_dict())
    said = refusal(encoder, file, allow_missing=['*'])
    arch, tensors = said.split('stem.0.weight')
    assert re.match(shows(file, 'pretrain', 70, 'MobileFormer', "arch='small'"), arch)
    assert '(32, 3, 3, 3)' in tensors and '(16, 3, 3, 3)' in tensors
    assert_same(encoder, before)
    assert re.match(shows('MobileFormer', "arch='small'"), refusal(Whole(wide), file))


def test_the_other_dynamic_relu(source, write):
    said = refusal(MobileFormer('small', dynamic_relu='spatial'), write(source.state_dict()))
    assert 'w.pth' in said and "dynamic_relu='plain'" in said


def test_nothing_matches(write):
    said = refusal(MobileFormer('small'), write(dict(a=torch.ones(1), b=torch.ones(1))))
    assert re.match(shows(194, 'a, b') + r'(?=.*\b0\b)', said)
    said = refusal(MobileFormer('small'), write(dict(epochs=1)))
    assert 'w.pth' in said and 'epochs' in said


def test_an_encoder_for_a_whole_model(source, write):
    said = refusal(Whole(), write(source.backbone.state_dict()))
    assert 'tools/train.py --pretrained' in said


@pytest.mark.parametrize('others', [[], [dict(type='Constant', layer='Conv2d', val=3.0)]])
def test_init_cfg_of_a_backbone(source, write, others):
    """Other parts are initialized as usual, and the encoder is not initialized again."""
    pretrained = dict(type='finola_mm.Pretrained', checkpoint=str(write(source.state_dict())))
    whole = Whole(backbone_init=[*others, pretrained])
    whole.init_weights()
    assert_same(whole.backbone, source.backbone)
    assert (whole.neck.linear.weight == 0.5).all() and (whole.neck.linear.bias == 0.25).all()


def test_init_cfg_of_a_whole_model(source, write):
    """The parts are initialized before: neither Constant nor Layer's own values remain."""
    file = str(write(source.state_dict()))
    whole = Whole(init_cfg=dict(type='finola_mm.Pretrained', checkpoint=file))
    whole.init_weights()
    assert_same(whole, source)


def test_init_cfg_of_a_config(source, write):
    encoder = MODELS.build(
        dict(
            type='finola_mm.MobileFormer',
            arch='small',
            init_cfg=dict(type='finola_mm.Pretrained', checkpoint=str(write(source.state_dict()))),
        )
    )
    encoder.init_weights()
    assert_same(encoder, source.backbone)
