"""Loading the encoder recorded in a file.

Training runs and extracted files: tests/tools/test_model_converters.py.
"""

import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from mmengine.registry import init_default_scope
from PIL import Image

import finola_mm
from finola_mm import MobileFormer
from finola_mm.apis import Encoder, load_config, load_encoder
from finola_mm.apis.inference import load_batch
from finola_mm.engine import CheckpointError, load_weights, read_checkpoint, write_weights
from finola_mm.registry import MODELS
from tests.conftest import ROOT
from tests.messages import shows

FILES = sorted((ROOT / 'demo').glob('*_shapes-*.safetensors'))


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.name)
def test_shipped_files(file):
    """Extracted encoders, and the encoders of published models."""
    encoder = load_encoder(file)
    recorded = read_checkpoint(file)['meta']['encoder']
    assert not any(module.training for module in encoder.modules())
    assert encoder.backbone.out_indices == tuple(recorded.get('out_indices', (4,)))
    expected = MobileFormer('small', out_indices=encoder.backbone.out_indices).eval()
    load_weights(expected, file)
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    for ours, theirs in zip(encoder(image), expected(image), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(encoder.forward_features(image), expected(image)[-1])
    tokens = encoder.backbone.tokens
    assert tokens.requires_grad and tokens.device.type == 'cpu'


def test_attributes():
    encoder = load_encoder('masked_finola_b_shapes')
    assert (encoder.arch, encoder.channel_order, encoder.input_size) == ('small', 'RGB', 224)
    np.testing.assert_allclose(encoder.mean, timm.data.IMAGENET_DEFAULT_MEAN)
    np.testing.assert_allclose(encoder.std, timm.data.IMAGENET_DEFAULT_STD)
    assert encoder.metadata['source'] == 'masked_finola_b'


def test_preprocess_as_in_validation(project_root, tmp_path):
    """The config's test pipeline and data preprocessor; and the same image in every form."""
    rng = np.random.default_rng(0)
    cfg = load_config('demo/masked_finola_b')
    encoder = load_encoder('masked_finola_b_shapes')
    init_default_scope('mmpretrain')
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    for i, size in enumerate([(150, 201), (133, 90), (128, 128), (40, 61)]):
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'{i}.png')
        expected = preprocessor(load_batch(cfg, [tmp_path / f'{i}.png']))['inputs'][0]
        for image in (tmp_path / f'{i}.png', Image.fromarray(pixels), pixels):
            torch.testing.assert_close(encoder.preprocess(image, 128), expected)


def test_preprocess_in_bgr():
    """As an encoder that was trained on BGR images without division by a deviation."""
    red = np.zeros((64, 64, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
    normalization = dict(mean=[10.0, 20.0, 30.0])
    encoder = Encoder(torch.nn.Identity(), dict(normalization=normalization, input_size=32))
    assert encoder.channel_order == 'BGR'
    expected = torch.tensor([-10.0, -20.0, 225.0]).view(3, 1, 1).expand(3, 32, 32)
    torch.testing.assert_close(encoder.preprocess(red), expected)


def test_the_public_name_is_lazy():
    assert finola_mm.load_encoder is load_encoder and 'load_encoder' in finola_mm.__all__
    code = 'import finola_mm, sys; assert not {"torch", "timm", "huggingface_hub"} & {*sys.modules}'
    subprocess.run([sys.executable, '-c', code], check=True)


def test_an_incomplete_encoder(tmp_path):
    content = read_checkpoint(next(file for file in FILES if 'masked_finola_b' in file.name))
    del content['state_dict']['tokens']
    write_weights(tmp_path / 'w.pth', content['state_dict'], meta=content['meta'])
    with pytest.raises(CheckpointError, match=shows(tmp_path / 'w.pth', 'tokens')):
        load_encoder(tmp_path / 'w.pth')
    with pytest.raises(CheckpointError, match=shows(tmp_path / 'no.pth')):
        load_encoder(tmp_path / 'no.pth')
