"""tools/analysis/curvature.py on surfaces with a closed-form curvature."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from finola_mm.apis import load_config
from finola_mm.registry import MODELS
from tests.messages import shows

SIZE = 7


def surfaces():
    """z (2, 3, 7, 7): a plane, a saddle and a bowl in both images, steeper in the second."""
    y, x = torch.meshgrid(*[torch.arange(SIZE) - 3.0] * 2, indexing='ij')
    first = torch.stack((3 * x - y, 0.1 * (x**2 - y**2), 0.2 * (x**2 + y**2)))
    return torch.stack((first, 2 * first))


def test_peaks_by_hand(load_analysis):
    """The surface a x^2 + b y^2 has its maximum curvature, 4ab, at the origin."""
    found = load_analysis('curvature').peaks(surfaces())
    expected = [[(0, 0), (0, -0.04), (0.16, 0)], [(0, 0), (0, -0.16), (0.64, 0)]]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_ranks_and_channels(load_analysis):
    tool = load_analysis('curvature')
    peaks = tool.peaks(surfaces())
    columns = tool.rank(peaks)
    values = np.array([[0.16, 0.04, 0], [0.64, 0.16, 0]]) / np.sqrt(2)  # images x ranks
    np.testing.assert_allclose(columns['mean'], values.mean(0), atol=1e-5)
    np.testing.assert_allclose(columns['decile_9'], np.quantile(values, 0.9, 0), atol=1e-5)
    np.testing.assert_allclose(columns['peak_positive'], [0.4, 0, 0], atol=1e-5)
    np.testing.assert_allclose(columns['peak_negative'], [0, -0.1, 0], atol=1e-5)
    rows = list(tool.channel_rows('name', peaks))
    assert [row['channel'] for row in rows] == [2, 1, 0]
    assert rows[0]['mean'] == pytest.approx(0.4 / np.sqrt(2), rel=1e-4)


def test_ranks_are_those_within_each_image(load_analysis):
    """Two channels swap between images: ranks differ, and means by channel are equal."""
    peaks = torch.tensor([[(1.0, 0), (0, 0)], [(0, 0), (0, -1.0)]])
    tool = load_analysis('curvature')
    np.testing.assert_allclose(tool.rank(peaks)['mean'], [0.5**0.5, 0])
    np.testing.assert_allclose(tool.rank(peaks)['peak_positive'], [0.5, 0])
    for row in tool.channel_rows('', peaks):
        assert row['mean'] == pytest.approx(0.5**0.5 / 2)


def test_a_planted_channel_comes_first(run_analysis, linear_model, plain_images, tmp_path):
    """Steps are small except in channel 5; two models share a figure."""
    config, checkpoint, model = linear_model
    with torch.no_grad():
        for matrix in model.neck.finola.parameters():
            matrix *= 0.05
            matrix[5] *= 40
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    out = tmp_path / 'out'
    run_analysis(
        'curvature',
        config,
        checkpoint,
        plain_images,
        '--with',
        config,
        checkpoint,
        '--out',
        out,
        '--batch-size',
        3,
    )
    rows = list(csv.DictReader((out / 'channels.csv').read_text().splitlines()))
    first = {row['model']: row['channel'] for row in reversed(rows)}
    assert first == {'linear (1)': '5', 'linear (2)': '5'}
    ranks = list(csv.DictReader((out / 'ranks.csv').read_text().splitlines()))
    assert len(ranks) == len(rows) == 2 * 12
    with Image.open(out / 'curvature.png') as picture:
        assert picture.width > 1000


def test_a_masked_model_shows_the_map_of_its_neck(load_analysis):
    class Masked(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.neck = torch.nn.Conv2d(3, 4, 1)

        def forward(self, images, samples, mode):
            assert samples == ['sample'] and mode == 'predict'
            return self.neck(images)

    model, images = Masked(), torch.rand(1, 3, 5, 5)
    z = load_analysis('curvature').feature_map(model, images, ['sample'])
    torch.testing.assert_close(z, model.neck(images).detach())
    assert not model.neck._forward_hooks


def test_our_models(run_analysis, image_folder, tmp_path):
    """Whole-image and masked FINOLA built from their configs."""
    pairs = []
    for name in ('finola', 'masked_finola_b'):
        config, checkpoint = f'configs/demo/{name}.py', tmp_path / f'{name}.pth'
        torch.save(MODELS.build(load_config(config).model).state_dict(), checkpoint)
        pairs.append((config, checkpoint))
    rest = (image_folder / 'val', '--out', tmp_path)
    run_analysis('curvature', *pairs[0], *rest, '--with', *pairs[1])
    ranks = csv.DictReader((tmp_path / 'ranks.csv').read_text().splitlines())
    assert {row['model'] for row in ranks} == {'finola', 'masked_finola_b'}
    run_analysis('wave_speeds', *pairs[1], '--out', tmp_path)
    run_analysis('embedding_space', *pairs[0], *rest)
    with pytest.raises(SystemExit, match=shows('MaskedFINOLA', 'configs/selfsup/finola.py')):
        run_analysis('embedding_space', *pairs[1], *rest)


def test_one_clear_message(run_analysis, linear_model, plain_images, tmp_path):
    config, checkpoint, _ = linear_model
    broken = tmp_path / 'broken.jpg'
    broken.write_bytes(b'<html>')
    out = ('--out', tmp_path / 'out')
    with pytest.raises(SystemExit, match=r'broken\.jpg'):
        run_analysis('curvature', config, checkpoint, broken, *out)
    with pytest.raises(SystemExit, match='nowhere'):
        run_analysis('curvature', config, checkpoint, tmp_path / 'nowhere', *out)
    with pytest.raises(SystemExit, match=r'no\.py'):
        run_analysis('curvature', config, checkpoint, plain_images, '--with', 'no.py', 'x', *out)
