"""The encoders in timm: the same features as the model's own."""

import pytest
import timm
import torch

import finola_mm.timm  # noqa: F401
from finola_mm import MobileFormer, load_encoder
from finola_mm.backbones.mobile_former import ARCHS
from finola_mm.errors import UserError
from tests.messages import shows


def create(arch, **options):
    return timm.create_model(f'finola_mf_{arch}', **options).eval()


@pytest.fixture
def image():
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def test_all_sizes_are_registered():
    assert {f'finola_mf_{arch}' for arch in ARCHS} == {*timm.list_models('finola_mf_*')}


@pytest.mark.parametrize('arch', ['w720', '52m', 'small'])
@torch.no_grad()
def test_features_only(arch, image):
    """All maps, and their widths and strides as feature_info gives them."""
    encoder = create(arch, features_only=True)
    own = MobileFormer(arch, range(len(ARCHS[arch]['stages']) + 1)).eval()
    own.load_state_dict(encoder.model.state_dict())
    found, expected = encoder(image), own(image)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)
    assert encoder.feature_info.channels() == [feat.shape[1] for feat in expected]
    assert encoder.feature_info.reduction() == [96 // feat.shape[3] for feat in expected]


@torch.no_grad()
def test_out_indices(image):
    """Later stages are removed."""
    every = create('small', pretrained=True, features_only=True)
    some = create('small', pretrained=True, features_only=True, out_indices=(0, -3))
    assert some.feature_info.channels() == [every.feature_info.channels()[i] for i in (0, 2)]
    for ours, theirs in zip(some(image), [every(image)[i] for i in (0, 2)], strict=True):
        assert torch.equal(ours, theirs)
    assert not [
        name for name in some.state_dict() if name.startswith(('model.stages.3', 'model.o'))
    ]


@torch.no_grad()
def test_pretrained(image, tmp_path):
    """The published weights, and a file, of an encoder or of a whole model."""
    own = load_encoder('masked_finola_b_shapes')
    expected = own.forward_features(image)
    assert torch.equal(create('small', pretrained=True).forward_features(image), expected)
    torch.save(dict(state_dict=own.state_dict()), tmp_path / 'model.pth')  # backbone.*
    overlay = dict(file=str(tmp_path / 'model.pth'))
    found = create('small', pretrained=True, pretrained_cfg_overlay=overlay, features_only=True)
    assert torch.equal(found(image)[-1], expected)
    settings = timm.data.resolve_model_data_config(found)
    assert (settings['mean'], settings['std']) == (own.mean, pytest.approx(own.std))
    with pytest.raises(RuntimeError, match=shows('finola_mf_w720')):
        create('w720', pretrained=True)


@torch.no_grad()
def test_classifier(image):
    model = create('small', pretrained=True, num_classes=7)
    features = model.forward_features(image)
    pooled = features.mean((2, 3))
    assert torch.equal(model(image), model.get_classifier()(pooled))
    assert torch.equal(model.forward_head(features, pre_logits=True), pooled)
    last, (first,) = model.forward_intermediates(image, indices=[0])
    assert torch.equal(last, features) and first.shape == (2, 48, 32, 48)
    for indices in (1, [-1], [4]):
        (found,) = model.forward_intermediates(image, indices, intermediates_only=True)
        assert torch.equal(found, features)
    assert len(model.forward_intermediates(image, intermediates_only=True)) == 5
    model.reset_classifier(0)
    assert torch.equal(model(image), pooled)
    model.reset_classifier(0, '')
    assert torch.equal(model(image), features)


def test_refuses():
    with pytest.raises(UserError, match=shows('in_chans', 1)):
        create('small', in_chans=1)
