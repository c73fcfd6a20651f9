"""Pooled features of images in all forms."""

import numpy as np
import pytest
import torch
from PIL import Image

from finola_mm import extract_features, load_encoder
from finola_mm.errors import UserError
from tests.messages import shows


@pytest.fixture(scope='module')
def encoder():
    return load_encoder('masked_finola_b_shapes')


def test_folder(encoder, image_folder):
    """The mean of the last map of each image, in the order of the names."""
    files = sorted((image_folder / 'train').rglob('*.jpg'))
    inputs = [encoder.preprocess(file, 64) for file in files]
    with torch.no_grad():
        expected = torch.cat([encoder(image[None])[-1].mean((2, 3)) for image in inputs])
    encoder.train()
    found = extract_features(encoder, image_folder / 'train', size=64, batch_size=3)
    assert all(module.training for module in encoder.modules())
    torch.testing.assert_close(found, expected)
    assert torch.equal(found, extract_features(encoder, map(str, files), size=64, batch_size=3))


def test_one_image(encoder, image_folder):
    file = image_folder / 'train/cat/0.jpg'
    features = extract_features(encoder, file)
    assert features.shape == (1, 256) and features.isfinite().all()
    image = Image.open(file)
    for form in (str(file), image, np.asarray(image)):
        torch.testing.assert_close(extract_features(encoder, form), features)


def test_refuses(encoder, tmp_path):
    with pytest.raises(UserError, match='no images'):
        extract_features(encoder, [])
    with pytest.raises(UserError, match=shows('float64', (8, 8, 3))):
        extract_features(encoder, np.zeros((8, 8, 3)))
    with pytest.raises(UserError, match=shows('int')):
        extract_features(encoder, [1])
    (tmp_path / 'broken.jpg').write_bytes(b'no image')
    for name in ('broken.jpg', 'missing.jpg'):
        for images in (tmp_path / name, [tmp_path / name]):
            with pytest.raises(UserError, match=shows(tmp_path / name)):
                extract_features(encoder, images)
