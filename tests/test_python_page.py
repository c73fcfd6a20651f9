"""The code of docs/python.md, run in its order at a reduced size and without a network."""

import re
import socket

import numpy as np
import pytest
from PIL import Image

from tests.apis.test_images import write_video
from tests.conftest import ROOT

TEXT = (ROOT / 'docs/python.md').read_text()
BLOCKS = re.findall(r'^```python\n(.*?)^```', TEXT, re.MULTILINE | re.DOTALL)
SMALLER = {
    'timm:convnext_tiny': 'timm:resnet18',
    'timm:resnet50': 'timm:resnet18',
    'epochs=100': 'steps=1, batch_size=2, image_size=64, num_workers=0, options=SMALL',
    "'FOLDER'": repr(str(ROOT)),
}
SMALL = {f'model.upsampler.{k}': v for k, v in dict(depth=1, embed_dim=32, num_heads=2).items()}


def test_all_blocks(tmp_path, monkeypatch):
    constants = pytest.importorskip('huggingface_hub').constants
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'hub'))
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(socket.socket, 'connect', lambda *args: pytest.fail('a connection'))
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (3, 60, 80, 3), np.uint8)
    (tmp_path / 'photos').mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(f'photos/{i}.png')
    Image.fromarray(images[0]).save('photo.jpg')
    write_video(tmp_path / 'clip.avi', [*images]).rename('clip.mp4')
    names = dict(SMALL=SMALL)
    for block in BLOCKS:
        if 'user/encoder' in block:  # as uploaded before
            snapshot = tmp_path / 'hub/models--user--encoder/snapshots/0'
            names['finola_mm'].load_encoder('masked_finola_b_shapes').save_pretrained(snapshot)
            (snapshot.parents[1] / 'refs').mkdir()
            (snapshot.parents[1] / 'refs/main').write_text('0')
        for text, smaller in SMALLER.items():
            block = block.replace(text, smaller)
        exec(block, names)
        if 'features' in names:
            assert names.pop('features').shape == (3, 256)
        if 'last' in names:
            assert names.pop('last').shape == (1, 256, 14, 14)
        if 'picture' in names:
            assert names.pop('picture').shape == (60, 80, 3) and len(names['several']) == 3
    assert len(BLOCKS) == 7 and (tmp_path / 'runs/convnext/encoder.safetensors').is_file()
    assert names['network'].num_stages == 4 and names['encoder'].arch == 'small'
