"""The counter against manual counts, and the command line on our configs."""

import importlib
import importlib.util
import re
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from finola_mm.layers import FormerToMobile, MobileToFormer
from tests.messages import shows

pytestmark = pytest.mark.skipif(
    not hasattr(torch, 'get_autocast_dtype'), reason='torch counts by module since 2.4'
)

SCRIPT = 'tools/analysis/get_flops.py'


@pytest.fixture
def tool(project_root):
    """Load the script as a module."""
    spec = importlib.util.spec_from_file_location('get_flops', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tool, monkeypatch, capsys):
    def run(*args):
        monkeypatch.setattr(sys, 'argv', [SCRIPT, *args])
        tool.main()
        return capsys.readouterr().out

    return run


class Products(nn.Module):
    """One product of each kind, on a batch of 2."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2)
        self.linear = nn.Linear(8, 5)

    def forward(self, x):
        x = self.conv(x)  # (2, 8, 3, 4) of (2, 4, 5, 7)
        x = self.linear(x.flatten(2).transpose(1, 2))  # (2, 12, 5)
        x = torch.bmm(x, x.transpose(1, 2))  # (2, 12, 12)
        q = x[:, None, :, :6]  # (2, 1, 12, 6)
        return F.scaled_dot_product_attention(q, q[:, :, :7], q[:, :, :7])


def test_every_product_is_counted(tool):
    conv = 2 * 8 * 3 * 4 * (4 // 2 * 9)
    linear = 2 * 12 * 8 * 5
    bmm = 2 * 12 * 5 * 12
    attention = 2 * (12 * 6 * 7 + 12 * 7 * 6)
    counts = tool.count_madds(Products(), torch.randn(2, 4, 5, 7))
    assert counts == {'': conv + linear + bmm + attention, 'conv': conv, 'linear': linear}


def test_the_bridges_by_hand(tool):
    x, tokens = torch.randn(3, 8, 4, 5), torch.randn(3, 6, 16)
    read = tool.count_madds(MobileToFormer(8, 16), x, tokens)['']
    assert read == 3 * (3 * 6 * 16 * 8 + 2 * 6 * 8 * 20)  # query, gate, out; q k, weights v
    write = tool.count_madds(FormerToMobile(8, 16), x, tokens)['']
    assert write == 3 * (2 * 6 * 16 * 8 + 2 * 6 * 8 * 20)  # key, value; q k, weights v


@pytest.mark.parametrize(
    'suffix, figures',
    [
        ('', r'25\.10 +77\.40 .*\b25\.0 M, 77\.5 G'),
        ('_w1440', r'11\.80 +20\.22 .*\b11\.7 M, 20\.4 G'),
        ('_w720', r'4\.95 +5\.50 .*\b4\.9 M, 5\.6 G'),
    ],
)
def test_encoders_beside_the_paper(run, suffix, figures):
    out = run(f'configs/selfsup/masked_finola_b{suffix}.py')
    assert re.search(rf'\b800 x 1333\b.*\n.*\n +encoder +{figures}\n', out), out
    assert 'attention' in out


@pytest.mark.parametrize(
    'name, algorithm, size',
    [
        ('masked_finola_b', 'MaskedFINOLA', '128 x 128'),
        ('finola', 'FINOLA', '64 x 64'),
    ],
)
def test_the_parts_of_a_model_add_up(run, name, algorithm, size):
    out = run(f'configs/demo/{name}.py', '--shape', '96', '96')
    assert '96 x 96' in out
    assert re.search(shows(f'finola_mm.{algorithm}', 'loss'), line_of(size, out))
    assert set(check_sums(out.split(size)[1])) == {'backbone', 'neck', 'upsampler', 'head'}


def line_of(size, out):
    """Return the title of the table for images of a size."""
    (line,) = (line for line in out.splitlines() if size in line)
    return line


def check_sums(table):
    """Check that the parts add up; return part -> (M parameters, G multiply-adds)."""
    rows = {
        name: (float(params), float(madds))
        for name, params, madds in re.findall(r'^ +(\w+) +([\d.]+) +([\d.]+)$', table, re.M)
    }
    total = rows.pop('sum')
    for column in range(2):
        assert sum(row[column] for row in rows.values()) == pytest.approx(total[column], abs=0.02)
    return rows


@pytest.mark.parametrize('name, options', [('retinanet', []), ('dino', ['model.num_queries=20'])])
def test_the_parts_of_mmdets_detectors_add_up(run, name, options):
    """mmdet calls the forward method of its heads directly, which the counter cannot see."""
    out = run(
        f'configs/det/{name}_mf.py',
        '--shape',
        '64',
        '64',
        '--cfg-options',
        'model.backbone.arch=small',
        'model.neck.in_channels=[96,256]',
        'test_pipeline.1.scale=(128,96)',
        *options,
    )
    rows = check_sums(out.split('96 x 128')[1])
    assert all(rows[part][1] > 0 for part in ('backbone', 'neck', 'bbox_head'))
    if name == 'retinanet':  # two towers of 4 convolutions at 5 levels, 9 anchors of 80 classes
        positions = 12 * 16 + 6 * 8 + 3 * 4 + 2 * 2 + 1
        by_hand = positions * 9 * 256 * (8 * 256 + 9 * (80 + 4))
        assert rows['bbox_head'][1] == pytest.approx(by_hand / 1e9, abs=0.005)


@pytest.mark.parametrize(
    'name, rows',
    [
        (
            'lin_w720',
            r'backbone +4\.95 +0\.28\n +head +0\.91 +0\.00\n'
            r' +sum +5\.87 +0\.28 .*\b5\.8 M\n',
        ),
        ('tran1_w720', r'backbone +4\.95 +0\.28\n +head +0\.97 +0\.13\n +sum +5\.92 +0\.4[01]\n'),
        ('tran4_ft_w720', r'sum +7\.26 +0\.71 .*\b7 M, 0\.7 G\n'),
        ('tran4_ft_w1440', r'sum +20\.09 +2\.60 .*\b20 M, 2\.6 G\n'),
        ('mobile_former/508m', r'sum +13\.98 +0\.50 .*\b14\.0 M, 0\.508 G\n'),
        ('mobile_former/26m', r'sum +3\.23 +0\.02 .*\b3\.2 M, 0\.026 G\n'),
    ],
)
def test_classifiers_beside_the_paper(run, name, rows):
    """The forward pass of one image is counted, which needs no labels."""
    out = run(f'configs/classification/{name}.py', '--shape', '64', '64')
    assert re.search(r'ImageClassifier\b(?!.*\bloss\b)', line_of('224 x 224', out))
    assert re.search(rows, out), out


def test_a_classifier_of_other_classes_is_not_the_papers(run):
    out = run(
        'configs/classification/lin_w720.py',
        '--shape',
        '64',
        '64',
        '--cfg-options',
        'model.head.num_classes=10',
    )
    assert '5.8 M' not in out


def test_options_reach_the_model(run):
    out = run(
        'configs/demo/masked_finola_b.py',
        '--cfg-options',
        'model.upsampler.depth=1',
        'model.backbone.frozen_stages=5',
    )
    assert 'MaskedFINOLA' in out
    assert re.search(r'upsampler +0\.6', out), out


@pytest.mark.parametrize(
    'path, values',
    [
        ('configs/selfsup/masked_finola_bb.py', ['masked_finola_bb.py', 'masked_finola_b.py']),
        ('configs/_base_/default_runtime.py', ['default_runtime.py', 'backbone']),
        ('configs/selfsup/mocov2.py', ['test_pipeline', 'crop_size', 'scale']),
    ],
)
def test_one_clear_message(run, path, values):
    with pytest.raises(SystemExit, match=shows(*values)):
        run(path)


OWN = """
from mmengine.registry import MODELS
from torch import nn

@MODELS.register_module()
class OwnEncoder(nn.Module):
    def __init__(self, **_):
        raise ValueError('my own')
"""


def test_sizes_that_do_not_fit_are_one_line_and_an_own_module_a_traceback(
    run, tmp_path, monkeypatch
):
    config = 'configs/classification/lin_w720.py'
    values = ('get_flops: ', 720, 'in_channels', 192)
    with pytest.raises(SystemExit, match=shows(*values)):
        run(config, '--cfg-options', 'model.head.in_channels=7')
    (tmp_path / 'own_encoder.py').write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module('own_encoder')
    with pytest.raises(ValueError, match='my own'):
        run(config, '--cfg-options', 'model.backbone.type=mmengine.OwnEncoder')


def test_sizes_of_pipelines(tool):
    resize = dict(type='Resize', scale=(1333, 800))
    assert tool.image_size([resize, dict(type='PackDetInputs')]) == (800, 1333)
    crop = dict(type='CenterCrop', crop_size=128)
    assert tool.image_size([dict(type='ResizeEdge', scale=144), crop]) == (128, 128)
    with pytest.raises(ValueError, match=shows('test_pipeline', 'crop_size', 'scale')):
        tool.image_size([dict(type='PackInputs')])
