"""tools/analysis/residuals.py on a model whose equations hold in two of the quadrants."""

import csv
import math

import pytest
import torch

from finola_mm.functional import finola, quadrant, step_residual
from tests.messages import shows

C = 12


def read(file):
    return list(csv.DictReader(file.read_text().splitlines()))


def test_equations_that_hold_and_those_that_do_not(
    run_analysis, linear_model, plain_images, tmp_path
):
    """B = A and B_neg = A_neg: both orders agree down and right, and up and left."""
    config, checkpoint, model = linear_model
    layer = model.neck.finola
    with torch.no_grad():
        layer.B.copy_(layer.A)
        layer.B_neg.copy_(layer.A_neg)
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    out = tmp_path / 'out'
    printed = run_analysis('residuals', config, checkpoint, plain_images, '--out', out)
    rows = {(row['quadrant'], row['positions']): row for row in read(out / 'summary.csv')}
    assert len(rows) == 2 * 5
    measures = ('eq1_x', 'eq1_y', 'orders', 'waves')
    for (name, _), row in rows.items():
        for measure in measures:
            if name in ('down and right', 'up and left'):
                assert float(row[measure]) < 1e-6
            assert float(row[f'{measure}_control']) > 0.05
    across = rows['up and right', 'off the axes']
    assert all(float(across[measure]) > 0.05 for measure in measures)
    assert f'| up and right | off the axes | {float(across["eq1_x"]):.2f}' in printed
    waves = read(out / 'waves.csv')
    assert len(waves) == 4 * (C - 1)
    for row in waves:
        if (row['a'], row['b']) == ('A', 'B'):
            assert float(row['real']) == pytest.approx(1) and float(row['residual']) < 1e-6


def test_medians_are_those_of_the_model_s_own_map(
    run_analysis, load_analysis, linear_model, plain_images, tmp_path
):
    """The x-steps of one quadrant, from the map that the fused form unrolls."""
    config, checkpoint, model = linear_model
    out = tmp_path / 'out'
    run_analysis('residuals', config, checkpoint, plain_images, '--out', out, '--number', 8)
    tool = load_analysis('residuals')
    files = sorted(plain_images.iterdir())
    q = tool.encode(model.eval(), tool.load_config(config), files)
    matrices = [p.detach().double() for p in model.neck.finola.parameters()]
    z = quadrant(finola(q.detach().double(), *matrices, (6, 6)), 'A_neg', 'B', (3, 3))
    inside = step_residual(z, matrices[1], -1)[:, :-1]
    (row,) = (
        row
        for row in read(out / 'summary.csv')
        if (row['quadrant'], row['positions']) == ('down and left', 'off the axes')
    )
    assert float(row['eq1_x']) == pytest.approx(inside[:, 1:, 1:].median().item(), rel=1e-3)


def test_without_wave_equations_the_rest_is_measured(
    run_analysis, linear_model, plain_images, tmp_path
):
    config, checkpoint, model = linear_model
    with torch.no_grad():
        model.neck.finola.B[:, 1] = model.neck.finola.B[:, 0]  # singular on zero-mean vectors
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    run_analysis('residuals', config, checkpoint, plain_images, '--out', tmp_path / 'out')
    rows = [r for r in read(tmp_path / 'out' / 'summary.csv') if r['quadrant'] == 'down and right']
    for row in rows:
        assert row['waves'] == '' and math.isfinite(float(row['eq1_y']))
    assert len(read(tmp_path / 'out' / 'waves.csv')) == 2 * (C - 1)


def test_one_clear_message(run_analysis, load_analysis, linear_model, plain_images, tmp_path):
    config, checkpoint, _ = linear_model
    one = sorted(plain_images.iterdir())[0]
    with pytest.raises(SystemExit, match=shows('residuals: ', 2, 1)):
        run_analysis('residuals', config, checkpoint, one, '--out', tmp_path)
    with pytest.raises(ValueError, match=shows('Linear', 'configs/selfsup/finola.py')):
        load_analysis('residuals').encode(torch.nn.Linear(1, 1), None, [one])
