"""What docs/scale.md says of FSDP on CPUs: it trains as DDP does, and saves its shards."""

import json
import os
import subprocess

import pytest

from tests.conftest import ROOT


def test_sharded_steps_equal_those_of_ddp(image_folder, tmp_path):
    subprocess.run(
        [ROOT / 'tools/misc/launch.sh', '2', '../tests/tools/train_sharded.py', image_folder,
         tmp_path],
        env={**os.environ, 'OMP_NUM_THREADS': '1'}, check=True, capture_output=True, timeout=300)
    losses = {}
    for name in ('ddp', 'fsdp'):
        (scalars,) = (tmp_path / name).glob('*/vis_data/scalars.json')
        losses[name] = [json.loads(line)['loss'] for line in scalars.read_text().splitlines()]
    assert len(losses['ddp']) == 2 and losses['ddp'][0] != losses['ddp'][1]
    assert losses['fsdp'] == pytest.approx(losses['ddp'], rel=1e-5)
    shards = {file.name for file in (tmp_path / 'fsdp' / 'iter_2.pth').iterdir()}
    assert shards == {'rank0.pth', 'rank1.pth'}
