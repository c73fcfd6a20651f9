"""tools/check/gpu.py on a CPU: stages with small models, a limit, and the report."""

import importlib.util
import json
import sys

import pytest
import torch
from mmengine.config import Config

from tests.conftest import ROOT
from tests.messages import shows

SCRIPT = ROOT / 'tools/check/gpu.py'
KIND = 'selfsup/masked_finola_b_w720'


@pytest.fixture
def check(monkeypatch):
    """The tool as a module, whose masked FINOLA-B is small."""
    spec = importlib.util.spec_from_file_location('tools.check.gpu', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def load(kind):
        assert kind == KIND
        cfg = Config.fromfile(ROOT / 'configs/demo/masked_finola_b.py')
        cfg.model.upsampler.depth = 1
        return cfg

    monkeypatch.setattr(module, 'load', load)
    return module


@pytest.fixture
def results(check, tmp_path):
    """Run a stage with these arguments; return the results that it wrote."""

    def run(stage, *args):
        file = tmp_path / 'results.jsonl'
        stage(check.Recorder(file, stage.__name__), *args)
        return [json.loads(line) for line in file.read_text().splitlines()]

    return run


@pytest.mark.skipif(torch.cuda.is_available(), reason='the CPU is compared with itself')
@pytest.mark.skipif(
    not hasattr(torch.amp, 'GradScaler'), reason='torch 2.1 has no float16 on a CPU'
)
def test_parity(check, results):
    rows = results(check.parity, {KIND: 2, 'not/small': 1})
    assert [row.get('precision') for row in rows] == ['float32', 'bfloat16', 'float16', None]
    assert shows_error(rows.pop(), 'not/small')
    assert rows[0]['loss'] == rows[0]['loss_on_cpu'] > 0
    assert all(row['same_parameters'] for row in rows)
    differences = [row['relative_difference_of_gradients'] for row in rows]
    assert differences[0] == 0 and 0 < differences[2] < differences[1] < 0.5


def shows_error(row, kind):
    return row['kind'] == kind and row['error'].startswith('AssertionError')


def test_clock_steps(check):
    """A model whose step takes at least 20 ms."""

    class Slow:
        def batch(self, seed):
            return dict(seed=seed)

        def train_step(self, batch):
            batches.append(batch['seed'])
            check.time.sleep(0.02)
            return dict(loss=torch.tensor(1.0))

    batches = []
    times = check.clock_steps(Slow(), steps=3, warm_up=2)
    assert 20 <= times['ms'] < 500 and 20 <= times['ms_unread'] < 500 and times['cpu_ms'] < 20
    assert batches == [0, 1, 0, 1, 2, 0, 1, 2]


def test_a_stage_that_exceeds_its_limit(check, monkeypatch, tmp_path):
    """It and its children are ended, and the check continues."""
    script = tmp_path / 'slow.py'
    script.write_text(
        'import os, sys, time\nif "quick" in sys.argv: sys.exit(3)\nos.fork()\ntime.sleep(60)\n'
    )
    monkeypatch.setattr(check, '__file__', str(script))
    for name in ('slow', 'quick'):
        check.run_stage(name, tmp_path / 'results.jsonl', 0.3 if name == 'slow' else 30)
    slow, quick = map(json.loads, (tmp_path / 'results.jsonl').read_text().splitlines())
    assert slow['stage'] == 'slow' and '0' in slow['exit_status'] and slow['seconds'] < 30
    assert quick['exit_status'] == 3


def test_report(tmp_path, check):
    rows = [
        dict(stage='steps', kind='a', ms=1.5),
        dict(stage='steps', kind='b', error='no'),
        dict(stage='steps', kind='c', ms=2.5),
        dict(stage='memory', kind='a', ms=3),
    ]
    assert check.markdown(rows).split('\n') == [
        '### steps',
        '',
        '| kind | ms |',
        '| --- | --- |',
        '| a | 1.5 |',
        '| c | 2.5 |',
        '',
        '| kind | error |',
        '| --- | --- |',
        '| b | no |',
        '',
        '### memory',
        '',
        '| kind | ms |',
        '| --- | --- |',
        '| a | 3 |',
        '',
    ]


def test_no_gpu(check, monkeypatch, tmp_path):
    monkeypatch.setattr(check, 'get_device', lambda: 'cpu')
    monkeypatch.setattr(sys, 'argv', ['gpu.py', '--out', str(tmp_path)])
    with pytest.raises(SystemExit, match=shows('no GPU')):
        check.main()
