"""The baselines beside the reconstructions of tools/visualization/reconstruct.py."""

import importlib.util
import re

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from PIL import Image
from safetensors.torch import save_file

from finola_mm.apis import load_config
from finola_mm.evaluation import pca_dct
from finola_mm.evaluation.reconstruction_hook import GAP, LABEL_WIDTH
from finola_mm.registry import MODELS
from tests.messages import shows

CONFIG = 'configs/study/latents.py'
SIZE, K, IMAGES = 64, 16, 3
OPTIONS = {'model.neck.channels': K, 'model.upsampler.in_channels': K}


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Random weights: the baselines do not depend on them."""
    init_default_scope('mmpretrain')
    file = tmp_path_factory.mktemp('model') / 'random.pth'
    model = MODELS.build(load_config(CONFIG, options=OPTIONS).model)
    torch.save(dict(state_dict=model.state_dict()), file)
    return file


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """A folder of three images of 64 x 64."""
    folder = tmp_path_factory.mktemp('images')
    for i in range(IMAGES):
        pixels = np.random.default_rng(i).integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(
            folder / f'{i}.png'
        )
    return folder


def load(images):
    files = sorted(images.iterdir())
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255


@pytest.fixture
def reconstruct(project_root, checkpoint, images, tmp_path, capsys):
    """Run the tool with these options -> (what it printed, the picture)."""
    spec = importlib.util.spec_from_file_location('tool', 'tools/visualization/reconstruct.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def run(*options, config=CONFIG):
        out = tmp_path / 'picture.png'
        tool.main(
            [str(x) for x in (config, checkpoint, images, '--out', out, *options)]
            + ['--cfg-options', *(f'{k}={v}' for k, v in OPTIONS.items())]
        )
        return capsys.readouterr().out, np.asarray(Image.open(out))

    return run


def fit(file, count, *, size=SIZE):
    """PCA and DCT of random images."""
    train = torch.rand(2 * count, 3, size, size, generator=torch.Generator().manual_seed(0))
    fitted = pca_dct.fit(train, [count], [size])
    pca_dct.save_fitted(fitted, file)
    return file


def test_rows_and_psnr(reconstruct, images, tmp_path):
    """PCA against NumPy's SVD; the printed PSNR against the images in float64."""
    file = fit(tmp_path / 'fitted.safetensors', K + 4)
    printed, picture = reconstruct('--baselines', file)
    assert picture.shape == (4 * (SIZE + GAP) - GAP, LABEL_WIDTH + IMAGES * (SIZE + GAP), 3)
    train = torch.rand(2 * K + 8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    train, x = train.flatten(1).double().numpy(), load(images).flatten(1).double().numpy()
    mean = train.mean(0)
    axes = np.linalg.svd(train - mean, full_matrices=False)[2][:K]
    expected = (mean + (x - mean) @ axes.T @ axes).clip(0, 1)
    error = ((expected - x) ** 2).mean(1)
    found = float(re.search(rf'PCA {K}, psnr +(\S+)', printed)[1])
    assert found == pytest.approx((-10 * np.log10(error)).mean(), abs=2e-3)
    row = picture[2 * (SIZE + GAP) : 2 * (SIZE + GAP) + SIZE, LABEL_WIDTH + GAP :]
    pixels = (expected[0] * 255).reshape(3, SIZE, SIZE).transpose(1, 2, 0)
    assert np.abs(row[:, :SIZE] - pixels).max() < 2  # the components are in float16
    assert re.search(rf'DCT {K}, psnr +\d', printed)


@pytest.mark.parametrize('count, size', [(K - 1, SIZE), (K, 32)])
def test_a_fit_that_does_not_suit(reconstruct, tmp_path, count, size):
    file = fit(tmp_path / 'fitted.safetensors', count, size=size)
    with pytest.raises(SystemExit, match=shows(file, count, size, K, SIZE, '--save')):
        reconstruct('--baselines', file)


def test_not_a_fit(reconstruct, checkpoint, tmp_path):
    file = tmp_path / 'other.safetensors'
    save_file({'weight': torch.zeros(2)}, file)
    with pytest.raises(SystemExit, match=shows(file, '--save', 'weight')):
        reconstruct('--baselines', file)
