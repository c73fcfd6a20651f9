"""The weights in demo/ are unchanged, documented and fit the models of their configs."""

import hashlib

import pytest
import torch
from mmengine.registry import init_default_scope

import finola_mm
from finola_mm import MobileFormer
from finola_mm.apis import load_config
from finola_mm.engine import find_checkpoint, load_weights
from finola_mm.engine.checkpoints.published_weights import PUBLISHED
from finola_mm.evaluation.pca_dct import load_fitted
from finola_mm.registry import MODELS
from tests.conftest import ROOT

FILES = sorted((ROOT / 'demo').glob('*.safetensors'))
CONFIGS = {
    'det_mf_dec211_shapes': 'demo/det_mf_dec211',
    'finola_photos': 'photos/finola',
    'masked_finola_b_photos': 'photos/masked_finola_b',
    'rtmdet_photopaste': 'photos/rtmdet_photopaste',
    'rtmdet_trees': 'photos/rtmdet_trees',
}
ENCODERS = 'masked_finola_b_shapes', 'mocov2_shapes'
RESNET, BASELINES = 'resnet18_objects12', 'pca_dct_photos'


def test_all_are_published():
    names = [file.stem.rpartition('-')[0] for file in FILES]
    assert names == sorted(PUBLISHED) == sorted([*CONFIGS, *ENCODERS, RESNET, BASELINES])


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.name)
def test_the_name_ends_with_the_hash_and_there_is_a_card(file):
    assert file.stem.rpartition('-')[2] == hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    assert f'## {file.name}\n' in (ROOT / 'demo/README.md').read_text()


def load(config):
    cfg = load_config(ROOT / 'configs' / f'{config}.py')
    init_default_scope(cfg.default_scope)
    return MODELS.build(cfg.model)


@pytest.mark.parametrize('name', [*CONFIGS, *ENCODERS, RESNET])
def test_all_of_it_is_loaded(name):
    if name in ENCODERS:
        model = MobileFormer('small')
    elif name == RESNET:
        model = load('study/any/resnet18').backbone
    else:
        model = load(CONFIGS[name])
    load_weights(model, find_checkpoint(name), allow_unused=False)


def test_the_encoder_of_the_masked_model():
    """A whole model is an encoder too, with the same weights."""
    model = load(CONFIGS['masked_finola_b_photos'])
    load_weights(model, find_checkpoint('masked_finola_b_photos'))
    found = finola_mm.load_encoder('masked_finola_b_photos').backbone.state_dict()
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(found[key], value), key


def test_baselines_are_orthonormal_and_as_many_as_the_vector():
    fitted = load_fitted(find_checkpoint(BASELINES))
    components = fitted['components'].double()
    assert components.shape == (256, 3 * 64 * 64)
    identity = torch.eye(256, dtype=torch.float64)
    torch.testing.assert_close(components @ components.mT, identity, atol=1e-3, rtol=0)
    assert sorted(fitted['dct_64'].tolist()) == list(range(3 * 64 * 64))
