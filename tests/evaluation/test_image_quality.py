"""PSNR and SSIM against their definitions, LPIPS with a mock of its package."""

import importlib
import re
import sys
import types

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from finola_mm.evaluation import ImageQuality, psnr, ssim
from finola_mm.evaluation.image_quality import ALEXNET
from finola_mm.registry import METRICS
from tests.messages import shows


@pytest.fixture
def samples():
    """Two images with errors of different size, some values outside [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    original = torch.rand(2, 3, 14, 13, generator=generator)
    size = torch.tensor([0.05, 0.4]).view(2, 1, 1, 1)
    noise = size * torch.randn(2, 3, 14, 13, generator=generator)
    return [
        dict(original=a, reconstruction=a + b, mask=torch.ones(1, 14, 13, dtype=torch.bool))
        for a, b in zip(original, noise, strict=True)
    ]


def clamped(sample):
    return (
        sample[key].numpy().astype(np.float64).clip(0, 1) for key in ('reconstruction', 'original')
    )


def psnr_by_definition(sample):
    pred, target = clamped(sample)
    return 10 * np.log10(1 / np.mean((pred - target) ** 2))


def ssim_by_definition(sample):
    """Wang et al. (2004), Eq. 13 to 16, in every 11 x 11 window that lies within the image."""
    x = np.arange(-5, 6)
    weight = np.exp(-(x[:, None] ** 2 + x**2) / (2 * 1.5**2))
    weight /= weight.sum()
    c1, c2 = 0.01**2, 0.03**2
    values = []
    for a, b in zip(*clamped(sample), strict=True):
        for i in range(a.shape[0] - 10):
            for j in range(a.shape[1] - 10):
                p, t = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
                mp, mt = (weight * p).sum(), (weight * t).sum()
                vp, vt = (weight * (p - mp) ** 2).sum(), (weight * (t - mt) ** 2).sum()
                cov = (weight * (p - mp) * (t - mt)).sum()
                values.append(
                    (2 * mp * mt + c1) * (2 * cov + c2) / ((mp**2 + mt**2 + c1) * (vp + vt + c2))
                )
    return np.mean(values)


def test_one_image_by_definition(samples):
    for sample in samples:
        pair = sample['reconstruction'], sample['original']
        assert psnr(*pair).item() == pytest.approx(psnr_by_definition(sample), abs=1e-9)
        assert ssim(*pair) == pytest.approx(ssim_by_definition(sample), abs=1e-9)


def test_ssim_is_that_of_8_bit_images():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 3, 20, 30), np.uint8)
    oracle = structural_similarity(
        a.transpose(1, 2, 0),
        b.transpose(1, 2, 0),
        channel_axis=2,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ssim(*(torch.from_numpy(x) / 255 for x in (a, b))) == pytest.approx(oracle, abs=1e-6)
    assert ssim(*[torch.from_numpy(a) / 255] * 2) == pytest.approx(1)


def test_ssim_rejects_small_images():
    with pytest.raises(ValueError, match=shows('10 x 30', '11 x 11')):
        ssim(torch.rand(3, 10, 30), torch.rand(3, 10, 30))


def test_metric_averages_over_images(samples):
    metric = METRICS.build(dict(type='finola_mm.ImageQuality', lpips=False))
    assert isinstance(metric, ImageQuality)
    for sample in samples:
        metric.process(None, [sample])
    result = metric.evaluate(size=2)
    assert result == {
        'image/psnr': pytest.approx(np.mean([psnr_by_definition(s) for s in samples]), abs=1e-9),
        'image/ssim': pytest.approx(np.mean([ssim_by_definition(s) for s in samples]), abs=1e-9),
    }


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty folder for torchvision's weights, and no package lpips."""
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: sys.modules.get(name))
    monkeypatch.delitem(sys.modules, 'lpips', raising=False)
    (tmp_path / 'checkpoints').mkdir()
    return tmp_path / 'checkpoints'


class AbsoluteError(torch.nn.Module):
    """A mock of lpips.LPIPS, which takes images in [-1, 1]."""

    def __init__(self, net, verbose):
        assert net == 'alex' and verbose is False
        super().__init__()

    def forward(self, a, b):
        assert a.shape == b.shape == (1, 3, 14, 13)
        assert min(a.min(), b.min()) >= -1 and max(a.max(), b.max()) <= 1
        return (a - b).abs().mean().view(1, 1, 1, 1)


def test_without_lpips_the_log_says_how_to_install_it(hub, samples, monkeypatch):
    said = []
    target = 'finola_mm.evaluation.image_quality.print_log'
    monkeypatch.setattr(target, lambda text, **_: said.append(text))
    metric = ImageQuality()
    metric.process(None, samples)
    assert set(metric.evaluate(size=2)) == {'image/psnr', 'image/ssim'}
    assert len(said) == 1 and 'python -m pip install lpips' in said[0]
    monkeypatch.setitem(sys.modules, 'lpips', types.SimpleNamespace(LPIPS=AbsoluteError))
    ImageQuality()
    assert len(said) == 2 and str(hub / ALEXNET) in said[1]


def test_with_lpips_on_disk_it_is_reported(hub, samples, monkeypatch):
    monkeypatch.setitem(sys.modules, 'lpips', types.SimpleNamespace(LPIPS=AbsoluteError))
    (hub / ALEXNET).touch()
    metric = ImageQuality()
    metric.process(None, samples)
    expected = np.mean([2 * np.abs(np.subtract(*clamped(s))).mean() for s in samples])
    assert metric.evaluate(size=2)['image/lpips'] == pytest.approx(expected, abs=1e-6)


def test_psnr_per_folder(samples):
    folders = ("Bob's cat", 'dog', "Bob's cat")
    metric = ImageQuality(lpips=False, per_folder=True)
    pictures = [*samples, dict(samples[1], original=samples[0]['original'])]
    metric.process(
        {},
        [
            dict(sample, img_path=f'/data/val/{folder}/1.png')
            for sample, folder in zip(pictures, folders, strict=True)
        ],
    )
    result = metric.evaluate(3)
    values = [psnr_by_definition(sample) for sample in pictures]
    assert result['image/psnr/Bob_s cat'] == pytest.approx((values[0] + values[2]) / 2, rel=1e-9)
    assert all(re.fullmatch(r'[\w./ -]+', name) for name in result)  # as MLflow requires
    assert result['image/psnr/dog'] == pytest.approx(values[1], rel=1e-9)
    assert result['image/psnr'] == pytest.approx(sum(values) / 3, rel=1e-9)
