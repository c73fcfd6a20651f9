"""Loading the encoder recorded in a file.

Training runs and extracted files: tests/tools/test_model_converters.py.
"""

import subprocess
import sys

import pytest
import torch

import finola_mm
from finola_mm import MobileFormer
from finola_mm.apis import load_encoder
from finola_mm.engine import CheckpointError, load_weights, read_checkpoint, write_weights
from tests.conftest import ROOT
from tests.messages import shows

FILES = sorted((ROOT / 'demo').glob('*.safetensors'))


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.name)
def test_shipped_files(file):
    """Extracted encoders, and the encoders of published models."""
    encoder = load_encoder(file)
    recorded = read_checkpoint(file)['meta']['encoder']
    assert not any(module.training for module in encoder.modules())
    assert encoder.out_indices == tuple(recorded.get('out_indices', (4,)))
    expected = MobileFormer('small', out_indices=encoder.out_indices).eval()
    load_weights(expected, file)
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    for ours, theirs in zip(encoder(image), expected(image), strict=True):
        assert torch.equal(ours, theirs)
    assert encoder.tokens.requires_grad and encoder.tokens.device.type == 'cpu'


def test_the_public_name_is_lazy():
    assert finola_mm.load_encoder is load_encoder and 'load_encoder' in finola_mm.__all__
    code = "import finola_mm, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, '-c', code], check=True)


def test_an_incomplete_encoder(tmp_path):
    content = read_checkpoint(next(file for file in FILES if 'masked_finola_b' in file.name))
    del content['state_dict']['tokens']
    write_weights(tmp_path / 'w.pth', content['state_dict'], meta=content['meta'])
    with pytest.raises(CheckpointError, match=shows(tmp_path / 'w.pth', 'tokens')):
        load_encoder(tmp_path / 'w.pth')
    with pytest.raises(CheckpointError, match=shows(tmp_path / 'no.pth')):
        load_encoder(tmp_path / 'no.pth')
