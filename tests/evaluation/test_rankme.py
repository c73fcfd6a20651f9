"""The effective rank of features with a known spectrum."""

import math

import pytest
import torch

from finola_mm.evaluation.rankme import rankme, second_moment


def test_known_spectra():
    generator = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(50, 8, generator=generator, dtype=torch.float64))
    turn, _ = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64))
    for values, rank in (
        ([1.0] * 8, 8),
        ([1.0] + [0.0] * 7, 1),
        ([2.0, 2.0, 0, 0, 0, 0, 0, 0], 2),
        ([3.0, 1.0, 0, 0, 0, 0, 0, 0], math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))),
    ):
        features = basis * torch.tensor(values) @ turn.T
        assert rankme(second_moment(features)) == pytest.approx(rank, rel=1e-4)


def test_the_moment_is_a_sum_over_features():
    features = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(second_moment(features), features.double().T @ features.double())
