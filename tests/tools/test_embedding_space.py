"""tools/analysis/embedding_space.py on a linear model with known results."""

import csv
import re

import numpy as np
import pytest
import torch
from PIL import Image

from tests.messages import shows


@pytest.fixture
def space(load_analysis, linear_model):
    tool = load_analysis('embedding_space')
    q = torch.randn(9, 1, 12, generator=torch.Generator().manual_seed(2))
    return tool, tool.EmbeddingSpace(linear_model[2], q, batch_size=4), q.flatten(1).double()


def image_of(model, q):
    return (model.decode(q.float()) + 0.5).clamp(0, 1).detach()


def test_mean_and_mirrors(space, linear_model):
    tool, space, q = space
    line = tool.through_the_mean(space, q[:3])
    mean = q.mean(0)
    for title, expected in {
        'q': q[:3],
        'mean': mean.expand(3, -1),
        '2 mean - q': 2 * mean - q[:3],
        '2q - mean': 2 * q[:3] - mean,
    }.items():
        torch.testing.assert_close(line[title], image_of(linear_model[2], expected), msg=title)


def test_interpolation_is_that_of_the_images(space):
    tool, space, q = space
    mixed = tool.interpolate(space, 0.1 * q[:3])
    quarter = 0.25 * mixed['q1'] + 0.75 * mixed['q2']
    torch.testing.assert_close(mixed['1/4 q1 + 3/4 q2'], quarter)
    torch.testing.assert_close(mixed['q2'], mixed['q1'].roll(-1, 0))


def test_axes_are_those_of_the_covariance(space):
    _, space, q = space
    values, vectors = np.linalg.eigh(np.cov(q.numpy().T))
    values, top = values[::-1][:8], vectors[:, ::-1][:, :3]
    np.testing.assert_allclose(space.deviations.numpy() ** 2, values, rtol=1e-9)
    mean = q.mean(0).numpy()
    expected = mean + (q.numpy() - mean) @ top @ top.T
    np.testing.assert_allclose(space.project(q, 3).numpy(), expected, atol=1e-9)


def test_samples_have_mean_and_covariance(space):
    _, space, q = space
    samples = space.sample(200_000, torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_allclose(samples.mean(0), q.mean(0).numpy(), atol=0.02)
    np.testing.assert_allclose(np.cov(samples.T), np.cov(q.numpy().T), atol=0.03)


def test_all_components_of_training_images_lose_nothing(space, linear_model):
    tool, space, q = space
    pictures = image_of(linear_model[2], q)
    *rows, last = tool.component_table(space, q, pictures, [1, 4, 8])
    assert last['components'] == 'all' and last['psnr'] == pytest.approx(100, abs=1e-3)
    assert rows[-1]['psnr'] > 90 and rows[-1]['variance_share'] == pytest.approx(1)
    assert rows[0]['psnr'] < rows[1]['psnr'] < rows[2]['psnr']
    error = np.clip(
        space.project(q, 1).numpy() @ linear_model[2].weight.detach().numpy(), -0.5, 0.5
    )
    error = (error.reshape(pictures.shape) + 0.5 - pictures.numpy()) ** 2
    oracle = -10 * np.log10(error.mean((1, 2, 3))).mean()
    assert rows[0]['psnr'] == pytest.approx(oracle, abs=1e-4)


def test_the_tool_on_plain_colours(run_analysis, linear_model, plain_images, tmp_path):
    """Plain colours have three components, mirror exactly and mix as images do.

    Three images are shown; the mean is that of all eight.
    """
    out = tmp_path / 'out'
    shown = [plain_images / f'{i}.png' for i in range(3)]
    printed = run_analysis(
        'embedding_space',
        *linear_model[:2],
        plain_images,
        '--show',
        *shown,
        '--out',
        out,
        '--num',
        3,
        '--components',
        1,
        2,
        3,
    )
    rows = list(csv.DictReader((out / 'components.csv').read_text().splitlines()))
    assert [row['components'] for row in rows] == ['1', '2', '3', 'all']
    assert float(rows[0]['psnr']) < float(rows[1]['psnr']) < 60 < float(rows[2]['psnr'])
    (summary,) = csv.DictReader((out / 'summary.csv').read_text().splitlines())
    assert float(summary['mirror']) == pytest.approx(-1, abs=1e-4)
    assert float(summary['mixup']) > 90
    colours = np.mean([np.asarray(Image.open(f))[0, 0] for f in plain_images.iterdir()], 0) / 255
    assert float(summary['grey']) == pytest.approx(colours.std(), abs=1e-4)
    assert '| all |' in printed
    for name in ('mean', 'interpolation', 'samples', 'components'):
        with Image.open(out / f'{name}.png') as picture:
            assert picture.width > picture.height > 100


def test_one_clear_message(run_analysis, linear_model, plain_images, tmp_path, capsys):
    config, checkpoint, _ = linear_model
    rest = ('--out', tmp_path / 'out')
    with pytest.raises(SystemExit, match='^embedding_space: .*covariance'):
        run_analysis('embedding_space', config, checkpoint, plain_images / '0.png', *rest)
    with pytest.raises(SystemExit, match=r'none\.pth'):
        run_analysis('embedding_space', config, tmp_path / 'none.pth', plain_images, *rest)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run_analysis('embedding_space', config, checkpoint, plain_images, *rest, '--num', 1)
    assert re.search(shows('--num', 1, 2), capsys.readouterr().err)
