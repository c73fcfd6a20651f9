"""mmpretrain's own tools on our configs, as the README's recipes call them."""

import json
from pathlib import Path

import mmengine
import mmpretrain
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from PIL import Image

from tests.conftest import ROOT
from tests.forks import run_script

HOST = Path(mmpretrain.__file__).parent / '.mim' / 'tools'
CONFIG = 'configs/demo/masked_finola_b.py'
CLASSES = 'ant bat cat dog eel fox gnu hen ibis jay kiwi lion'.split()  # 12, as in the demo
SUPERVISED, LIN = 'configs/demo/cls_supervised.py', 'configs/demo/cls_lin.py'


def host_tool(name, *args):
    run_script(HOST / name, *args)


def test_browse_dataset(project_root, image_folder, tmp_path):
    host_tool(
        'visualization/browse_dataset.py',
        CONFIG,
        '--mode',
        'pipeline',
        '--not-show',
        '--show-number',
        '2',
        '--output-dir',
        tmp_path,
        '--cfg-options',
        f'train_dataloader.dataset.dataset.data_root={image_folder}',
    )
    assert len(list(tmp_path.glob('*.jpg'))) == 2


def test_vis_scheduler(project_root, tmp_path):
    # The tool knows an epoch-based run by the name of mmengine's own loop.
    host_tool(
        'visualization/vis_scheduler.py',
        'configs/selfsup/masked_finola_b_w720.py',
        '--dataset-size',
        '10240',
        '--ngpus',
        '8',
        '--not-show',
        '--save-path',
        tmp_path / 'lr.png',
        '--cfg-options',
        'train_cfg.type=EpochBasedTrainLoop',
        f'work_dir={tmp_path}',
    )
    assert (tmp_path / 'lr.png').stat().st_size > 1000


def test_analyze_logs(tmp_path):
    log = tmp_path / 'scalars.json'
    rows = [dict(lr=0.1, loss=1 / step, time=0.1, step=step, iter=step) for step in range(1, 9)]
    rows += [{'masked/psnr': 9.0, 'step': 8}, {'knn/top1': 10.0, 'knn/top5': 50.0, 'step': 8}]
    log.write_text('\n'.join(map(json.dumps, rows)))
    host_tool(
        'analysis_tools/analyze_logs.py',
        'plot_curve',
        log,
        '--keys',
        'loss',
        '--out',
        tmp_path / 'loss.png',
    )
    assert (tmp_path / 'loss.png').stat().st_size > 1000


def test_a_curve_of_knn_accuracy(tmp_path):
    """The tool needs its key in every row of a validation, so the README filters the others."""
    log = tmp_path / 'knn.json'
    rows = [{'knn/top1': 10.0 + step, 'knn/top5': 50.0, 'step': step} for step in (4, 8)]
    log.write_text('\n'.join(map(json.dumps, rows)))
    host_tool(
        'analysis_tools/analyze_logs.py',
        'plot_curve',
        log,
        '--keys',
        'knn/top1',
        '--out',
        tmp_path / 'knn.png',
    )
    assert (tmp_path / 'knn.png').stat().st_size > 1000


@pytest.fixture(scope='module')
def classifier(tmp_path_factory):
    """A folder with an untrained classifier and an image of each class; the options."""
    folder = tmp_path_factory.mktemp('classifier')
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (folder / 'val' / name).mkdir(parents=True)
        picture = Image.fromarray(rng.integers(0, 256, (96, 96, 3), np.uint8))
        picture.save(folder / 'val' / name / f'{name}.png')
    cfg = Config.fromfile(ROOT / SUPERVISED)
    init_default_scope(cfg.default_scope)
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), folder / 'model.pth')
    options = [
        f'test_dataloader.dataset.dataset.data_root={folder}',
        'test_dataloader.num_workers=0',
        'test_dataloader.persistent_workers=False',
    ]
    return folder, ['--cfg-options', *options]


def test_results_and_confusion_matrix(project_root, classifier):
    folder, options = classifier
    config, results = SUPERVISED, folder / 'results.pkl'
    host_tool(
        'test.py',
        config,
        folder / 'model.pth',
        '--work-dir',
        folder / 'test',
        '--out',
        results,
        '--out-item',
        'pred',
        *options,
    )
    host_tool(
        'analysis_tools/confusion_matrix.py',
        config,
        results,
        '--show-path',
        folder / 'confusion.png',
        '--out',
        folder / 'confusion.pkl',
        *options,
    )
    matrix = mmengine.load(folder / 'confusion.pkl')
    assert matrix.shape == (12, 12) and (matrix.sum(1) == 1).all()
    assert (folder / 'confusion.png').stat().st_size > 1000
    host_tool(
        'analysis_tools/analyze_results.py',
        config,
        results,
        '--out-dir',
        folder / 'shown',
        '--topk',
        '12',
        *options,
    )
    assert len(list(folder.glob('shown/*/*.png'))) == 12


def test_vis_cam(project_root, classifier):
    """A probe has a frozen encoder, for which gradients must be enabled explicitly."""
    folder, options = classifier
    model = MODELS.build(Config.fromfile(LIN).model)
    torch.save(dict(state_dict=model.state_dict()), folder / 'probe.pth')
    host_tool(
        'visualization/vis_cam.py',
        folder / 'val/cat/cat.png',
        LIN,
        folder / 'probe.pth',
        '--target-layers',
        'backbone.out.1',
        '--save-path',
        folder / 'cam.png',
        *options,
        'model.backbone.frozen_stages=-1',
    )
    with Image.open(folder / 'cam.png') as picture:
        assert picture.size == (96, 96)


def test_vis_tsne(project_root, classifier):
    folder, options = classifier
    host_tool(
        'visualization/vis_tsne.py',
        SUPERVISED,
        '--checkpoint',
        folder / 'model.pth',
        '--work-dir',
        folder / 'tsne',
        '--vis-stage',
        'backbone',
        '--perplexity',
        '3',
        '--n-iter',
        '250',
        *options,
        'model.backbone.with_tokens=False',
    )
    (features,) = folder.glob('tsne/*/feat_4.npy')
    assert np.load(features).shape == (12, 256)
    assert features.with_suffix('.png').stat().st_size > 1000
