"""The table of PCA, DCT and the autoencoder, and the autoencoder's training."""

import csv
import re

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from PIL import Image

from finola_mm.evaluation import psnr
from tests.messages import shows


@pytest.fixture
def tool(load_analysis):
    return load_analysis('latent_baselines')


def test_autoencoder_learns_one_image(tool, smooth_images):
    constant = smooth_images[0][:1].mean((2, 3), keepdim=True).expand(4, 3, 16, 16).contiguous()
    reconstruct = tool.autoencoder(constant, 3, steps=60, batch_size=8, lr=3e-3, seed=0)
    again = tool.autoencoder(constant, 3, steps=60, batch_size=8, lr=3e-3, seed=0)
    found = reconstruct(constant, 3)
    assert psnr(found[0], constant[0]) > 30
    assert torch.equal(found, again(constant, 3))


def test_autoencoder_is_what_its_documentation_says(tool):
    model = tool.ConvAutoencoder(7, 32)
    assert model.encoder(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 3, 32, 32)
    features = 256 * 2 * 2
    convs = [16 * a * b for a, b in ((3, 32), (32, 64), (64, 128), (128, 256))]
    biases = 32 + 64 + 128 + 256 + 128 + 64 + 32 + 3 + 7 + features
    assert sum(p.numel() for p in model.parameters()) == 2 * (sum(convs) + 7 * features) + biases


@pytest.fixture
def folders(tmp_path, smooth_images):
    """The images as files, and the options that name them."""
    for name, part in zip(('train', 'val'), smooth_images, strict=True):
        (tmp_path / name).mkdir()
        for i, image in enumerate(part):
            pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(tmp_path / name / f'{i:02}.png')
    return '--train', tmp_path / 'train', '--val', tmp_path / 'val', '--size', 16


def read_psnr(file):
    rows = csv.DictReader(file.read_text().splitlines())
    return {(row['method'], row['latent']): float(row['psnr']) for row in rows}


def test_the_table(run_analysis, tmp_path, folders):
    out = tmp_path / 'table.csv'
    options = ('--latent', 8, 100, '--steps', 2, '--out', out)
    printed = run_analysis('latent_baselines', *folders, *options)
    rows = list(csv.DictReader(out.read_text().splitlines()))
    names = ['pca', 'dct 8 fixed', 'dct 8 largest', 'dct 16 fixed', 'dct 16 largest', 'autoencoder']
    assert [r['method'] for r in rows if r['latent'] == '8'] == names
    assert [r['method'] for r in rows if r['latent'] == '100'] == names[1:]
    (lacking,) = (line for line in printed.splitlines() if 'pca' in line and '|' not in line)
    assert re.search(shows(100, 30), lacking)
    psnrs = read_psnr(out)
    assert psnrs['dct 8 fixed', '8'] < psnrs['dct 8 largest', '8'] < psnrs['dct 8 largest', '100']


def test_a_saved_fit_gives_the_same_table(run_analysis, tmp_path, folders):
    """Components are stored in float16."""
    file, tables = tmp_path / 'fitted.safetensors', [tmp_path / 'a.csv', tmp_path / 'b.csv']
    options = ('--latent', 8, 20, '--methods', 'pca', 'dct', '--out')
    run_analysis('latent_baselines', *folders, *options, tables[0], '--save', file)
    run_analysis('latent_baselines', '--train', file, *folders[2:], *options, tables[1])
    first, second = map(read_psnr, tables)
    assert len(first) == 10 and second == pytest.approx(first, abs=1e-3)


@pytest.mark.parametrize(
    'options, values',
    [
        (['--size', 32], ['--size', 16, 32]),
        (['--patch', 4], ['--patch', 8, 4]),
        (['--methods', 'autoencoder'], ['--methods', 'autoencoder']),
        (['--train', 'val/00.png'], ['00.png', '--save']),
    ],
)
def test_a_saved_fit_that_does_not_have_the_options(
    run_analysis, tmp_path, folders, options, values
):
    file, common = tmp_path / 'fitted.safetensors', ('--latent', 8, '--methods', 'pca', 'dct')
    run_analysis('latent_baselines', *folders, *common, '--save', file)
    options = [tmp_path / option if '/' in str(option) else option for option in options]
    with pytest.raises(SystemExit, match=shows(*values)):
        run_analysis('latent_baselines', '--train', file, *folders[2:], *common, *options)


def test_random_crops(tool, tmp_path):
    """Each crop shows a part of its image: here, of a ramp from left to right."""
    init_default_scope('mmpretrain')
    ramp = np.broadcast_to(np.arange(0, 200, dtype=np.uint8)[None, :, None], (120, 200, 3))
    for name in 'ab':
        Image.fromarray(ramp).save(tmp_path / f'{name}.png')
    np.random.seed(0)
    crops = tool.load_images([str(tmp_path)], tool.random_crop(16), 5, crops=20)
    assert crops.shape == (40, 3, 16, 16)
    width = (crops[:, 0, :, -1] - crops[:, 0, :, 0]).mean(1) * 255 * 16 / 15
    assert (width < 0).sum() in range(10, 31)  # flipped
    assert width.abs().max() < 201 and len(width.abs().round().unique()) > 20


@pytest.mark.parametrize(
    'options, values',
    [
        (['--latent', 769], ['--latent', 769, '--size', 768]),
        (['--latent', 8, '--patch', 7], ['--patch', 7, '--size', 16]),
        (['--latent', 8, '--size', 24], ['--size', 24, 16]),
        (['--latent', 8, '--out', 'table.txt'], ['table.txt', '.csv']),
        (['--latent', 8], ['.jpg']),
    ],
)
def test_one_clear_message(run_analysis, tmp_path, options, values):
    folders = ('--train', tmp_path, '--val', tmp_path, '--size', 16)
    with pytest.raises(SystemExit, match=shows(*values)):
        run_analysis('latent_baselines', *folders, *options)


def test_no_numbers(run_analysis, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run_analysis('latent_baselines', '--train', tmp_path, '--val', tmp_path, '--latent', 0)
    assert re.search(shows('--latent', 0, 1), capsys.readouterr().err)
