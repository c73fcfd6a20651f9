"""Latency and agreement of a small detector in the formats that are installed."""

import importlib.util
import json

import pytest
import torch

from finola_mm.apis.export_formats import median_ratio, take_turns
from finola_mm.functional.compat import EXPORTS_ONNX
from tests.tools import small_detector

pytestmark = pytest.mark.skipif(not EXPORTS_ONNX, reason='ONNX export requires torch 2.6')


@pytest.fixture
def bench(project_root):
    """Load tools/deployment/bench.py as a module."""
    spec = importlib.util.spec_from_file_location('bench', 'tools/deployment/bench.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_take_turns_alternates_the_order_and_drops_the_first_turn():
    calls, clock = [], iter(range(100))
    functions = {name: lambda name=name: calls.append(name) for name in 'ab'}
    times = take_turns(functions, 2, lambda: next(clock))
    assert ''.join(calls) == 'abbaab' and times == dict(a=[1, 1], b=[1, 1])
    assert median_ratio([1, 6, 8], [1, 2, 2]) == 3


def test_equal_labels_are_those_of_objects(bench):
    """Of two queries with an object, one has another label; the third query has none."""
    expected = torch.tensor([[[0.9, 0.0], [0.1, 0.8], [0.1, 0.2]]])
    outputs = torch.tensor([[[0.6, 0.3], [0.5, 0.4], [0.2, 0.1]]])
    assert bench.equal_labels([outputs], [expected]).tolist() == [True, False]
    assert bench.equal_labels([outputs[0]], [expected[0]]).tolist() == [True, False, False]


def test_table_and_json(bench, tmp_path, capsys):
    checkpoint = small_detector.write_checkpoint(tmp_path / 'small.pth')
    small_detector.write_scenes(tmp_path / 'scenes')
    command = [small_detector.CONFIG, str(checkpoint), '--size', '61', '83', '--turns', '2']
    command += ['--formats', 'torch', 'torchscript', '--images', str(tmp_path / 'scenes')]
    out = tmp_path / 'bench.json'
    options = ['--threads', '1', '--out', str(out), '--cfg-options', *small_detector.MODEL]
    bench.main([*command, *options])
    rows = json.loads(out.read_text())['rows']
    assert [row['format'] for row in rows] == ['torch', 'torchscript']
    assert all(row['difference'] < 1e-4 and row['milliseconds'] > 0 for row in rows)
    assert all(row['equal_labels'] == 1 for row in rows if row['labels'])
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith('| torch') for line in lines) == 2
