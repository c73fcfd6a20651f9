"""mmpretrain's own tools on our configs, as the README's recipes call them."""

import json
import subprocess
import sys
from pathlib import Path

import mmpretrain

HOST = Path(mmpretrain.__file__).parent / '.mim' / 'tools'
CONFIG = 'configs/demo/masked_finola_b.py'


def host_tool(name, *args):
    subprocess.run([sys.executable, HOST / name, *args], check=True, timeout=300)


def test_browse_dataset(project_root, image_folder, tmp_path):
    host_tool('visualization/browse_dataset.py', CONFIG, '--mode', 'pipeline', '--not-show',
              '--show-number', '2', '--output-dir', tmp_path, '--cfg-options',
              f'train_dataloader.dataset.dataset.data_root={image_folder}')
    assert len(list(tmp_path.glob('*.jpg'))) == 2


def test_vis_scheduler(project_root, tmp_path):
    # The tool knows an epoch-based run by the name of mmengine's own loop.
    host_tool('visualization/vis_scheduler.py', 'configs/selfsup/masked_finola_b_w720.py',
              '--dataset-size', '10240', '--ngpus', '8', '--not-show', '--save-path',
              tmp_path / 'lr.png', '--cfg-options', 'train_cfg.type=EpochBasedTrainLoop',
              f'work_dir={tmp_path}')
    assert (tmp_path / 'lr.png').stat().st_size > 1000


def test_analyze_logs(tmp_path):
    log = tmp_path / 'scalars.json'
    rows = [dict(lr=0.1, loss=1 / step, time=0.1, step=step, iter=step) for step in range(1, 9)]
    log.write_text('\n'.join(map(json.dumps, rows)))
    host_tool('analysis_tools/analyze_logs.py', 'plot_curve', log, '--keys', 'loss', '--out',
              tmp_path / 'loss.png')
    assert (tmp_path / 'loss.png').stat().st_size > 1000
