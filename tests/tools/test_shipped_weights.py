"""The weights in demo/ are unchanged, documented and fit the models of the demo."""

import hashlib
import re

import pytest
from mmengine.registry import init_default_scope

from finola_mm import MobileFormer
from finola_mm.apis import load_config
from finola_mm.engine import load_weights
from finola_mm.registry import MODELS
from tests.conftest import ROOT

CONFIGS = {
    'finola': ('mmpretrain', 'configs/study/reconstruction.py'),
    'det_mf_dec211': ('mmdet', 'configs/demo/det_mf_dec211.py'),
}
ENCODERS = ('masked_finola_b', 'mocov2')
FILES = sorted((ROOT / 'demo').glob('*.safetensors'))


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.name)
def test_the_name_ends_with_the_hash_and_there_is_a_card(file):
    assert file.stem.rpartition('-')[2] == hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    assert f'## {file.name}\n' in (ROOT / 'demo/README.md').read_text()


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.name)
def test_all_of_it_is_loaded(file):
    name = re.split('_shapes|_objects12', file.name)[0]
    if name in ENCODERS:
        model = MobileFormer('small')
    elif name == 'resnet18':
        init_default_scope('mmpretrain')
        model = MODELS.build(load_config(ROOT / 'configs/study/any/resnet18.py').model.backbone)
    else:
        scope, config = CONFIGS[name]
        init_default_scope(scope)
        model = MODELS.build(load_config(ROOT / config).model)
    load_weights(model, file, allow_unused=False)
