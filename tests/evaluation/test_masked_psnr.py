"""PSNR against its definition, written with NumPy."""

import numpy as np
import pytest
import torch

from finola_mm.evaluation import MaskedPSNR, psnr


@pytest.fixture
def sample():
    generator = torch.Generator().manual_seed(0)
    original, reconstruction = torch.rand(2, 3, 8, 8, generator=generator)
    mask = torch.ones(1, 8, 8, dtype=torch.bool)
    mask[:, 2:6, 0:4] = False  # False = visible
    return dict(original=original, reconstruction=1.5 * reconstruction - 0.2, mask=mask)


def by_definition(pred, target, masked):
    pred, target = (np.clip(x.numpy().astype(np.float64), 0, 1) for x in (pred, target))
    errors = [
        (pred[c, y, x] - target[c, y, x]) ** 2
        for c in range(3)
        for y in range(8)
        for x in range(8)
        if masked[0, y, x]
    ]
    return 10 * np.log10(1 / np.mean(errors))


def test_psnr_by_definition(sample):
    result = psnr(sample['reconstruction'], sample['original'], sample['mask'])
    oracle = by_definition(sample['reconstruction'], sample['original'], sample['mask'])
    assert result.item() == pytest.approx(oracle, abs=1e-9)


def test_metric_averages_over_images_and_knows_the_mean_colour(sample):
    metric = MaskedPSNR()
    other = {**sample, 'reconstruction': sample['original'] + 0.1}
    metric.process(None, [sample, other])
    result = metric.evaluate(size=2)
    oracles = [
        by_definition(s['reconstruction'], s['original'], s['mask']) for s in (sample, other)
    ]
    assert result['masked/psnr'] == pytest.approx(np.mean(oracles), abs=1e-9)
    colour = sample['original'][:, 2:6, 0:4].mean((1, 2))
    guess = colour[:, None, None].expand(3, 8, 8)
    baseline = by_definition(guess, sample['original'], sample['mask'])
    assert result['masked/psnr_mean_colour'] == pytest.approx(baseline, abs=1e-5)
    assert result['masked/gain'] == pytest.approx(np.mean(oracles) - baseline, abs=1e-5)


def test_a_perfect_image_is_worth_100_db(sample):
    assert psnr(sample['original'], sample['original'], sample['mask']).item() == pytest.approx(100)
