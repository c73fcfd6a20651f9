"""tools/analysis/wave_speeds.py on matrices constructed from given speeds."""

import csv
import math

import numpy as np
import pytest
import torch

from tests.messages import shows

C = 12
SPEEDS = [3.0, -2.0, 0.5, (1, 1), (0.2, 4), (-1, 0.3), (0.1, 0.1)]  # real, or one of a pair


def planted(B, speeds):
    """Return A such that A B^-1 has these speeds, real or (real, imaginary), on the range of B."""
    c = len(B)
    left, _, _ = np.linalg.svd(B - B.mean(1, keepdims=True))
    blocks = np.zeros((c - 1, c - 1))
    i = 0
    for speed in speeds:
        if isinstance(speed, tuple):
            real, imaginary = speed
            blocks[i : i + 2, i : i + 2] = [[real, -imaginary], [imaginary, real]]
            i += 2
        else:
            blocks[i, i] = speed
            i += 1
    assert i == c - 1
    q = left[:, : c - 1] @ blocks @ left[:, : c - 1].T  # normal: V is unitary
    return q @ B


@pytest.fixture
def checkpoint(linear_model):
    """The stand-in with given speeds in the quadrants of B, and a singular B_neg."""
    config, file, model = linear_model
    rng = np.random.default_rng(0)
    finola = model.neck.finola
    B = rng.normal(size=(C, C))
    singular = rng.normal(size=(C, 3)) @ rng.normal(size=(3, C))
    matrices = dict(B=B, B_neg=singular, A=planted(B, SPEEDS), A_neg=planted(B, [2.0] + [1.0] * 10))
    with torch.no_grad():
        for name, matrix in matrices.items():
            getattr(finola, name).copy_(torch.from_numpy(matrix))
    torch.save(dict(state_dict=model.state_dict()), file)
    return config, file


def test_planted_speeds_come_out(run_analysis, checkpoint, tmp_path):
    out = tmp_path / 'out'
    printed = run_analysis('wave_speeds', *checkpoint, '--out', out)
    rows = list(csv.DictReader((out / 'speeds.csv').read_text().splitlines()))
    found = sorted(
        (round(float(r['real']), 3), round(float(r['imaginary']), 3))
        for r in rows
        if (r['a'], r['b']) == ('A', 'B')
    )
    pairs = [s if isinstance(s, tuple) else (s, 0) for s in SPEEDS]
    expected = sorted({(a, sign * b) for a, b in pairs for sign in (1, -1)})
    np.testing.assert_allclose(found, expected, atol=1e-3)

    table = csv.DictReader((out / 'summary.csv').read_text().splitlines())
    summary = {(r['a'], r['b']): r for r in table}
    assert len(summary) == 4
    row = {name: float(value) for name, value in summary['A', 'B'].items() if len(name) > 1}
    assert row['complex_share'] == pytest.approx(8 / 11, abs=1e-4)
    assert row['condition_v'] == pytest.approx(1, abs=1e-3)  # a normal matrix
    assert row['fastest'] == pytest.approx(math.hypot(0.2, 4), abs=1e-3)
    assert row['slowest'] == pytest.approx(math.hypot(0.1, 0.1), abs=1e-3)
    assert float(summary['A', 'B_neg']['condition_b']) > 1e6
    assert math.isnan(float(summary['A', 'B_neg']['complex_share']))
    assert '| A, B |' in printed and '72.7 %' in printed
    assert (out / 'speeds.png').stat().st_size > 10_000


def test_the_condition_is_that_on_vectors_of_mean_zero(load_analysis):
    """P from a QR of the complement of ones, and NumPy's singular values of BP."""
    rng = np.random.default_rng(1)
    A, B = rng.normal(size=(2, C, C))
    basis = np.linalg.qr(np.concatenate([np.ones((C, 1)), np.eye(C)[:, :-1]], 1))[0][:, 1:]
    speeds, row = load_analysis('wave_speeds').analyse(torch.from_numpy(A), torch.from_numpy(B))
    assert row['condition_b'] == pytest.approx(np.linalg.cond(B @ basis), rel=1e-9)
    q = A @ basis @ np.linalg.pinv(B @ basis)
    oracle = np.sort(np.abs(np.linalg.eigvals(q)))[1:]  # without the 0 outside the range of B
    np.testing.assert_allclose(np.sort(speeds.abs().numpy()), oracle, rtol=1e-8)


def test_one_clear_message(load_analysis, run_analysis, linear_model, tmp_path):
    tool = load_analysis('wave_speeds')
    model = linear_model[2]
    model.neck.finola.step = 'nonlinear'
    with pytest.raises(ValueError, match=shows('nonlinear', 'norm_linear')):
        tool.find_finola(model)
    with pytest.raises(SystemExit, match=r'none\.pth'):
        run_analysis('wave_speeds', linear_model[0], tmp_path / 'none.pth', '--out', tmp_path)
