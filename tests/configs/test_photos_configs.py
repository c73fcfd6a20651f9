"""The configs of photographs read what make_photos.py writes."""

import json

import pytest
from mmengine.registry import DATASETS, MODELS, init_default_scope
from PIL import Image

from finola_mm.apis import load_config
from finola_mm.datasets import SampleKey
from finola_mm.datasets.validation import check_data
from tests.datasets import fake_photos

SIDES = dict(
    finola=64,
    masked_finola_b=128,
    cls_lin=96,
    det_photopaste=192,
    rtmdet_photopaste=192,
    det_trees=384,
    rtmdet_trees=384,
)


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    out = tmp_path_factory.mktemp('photos') / 'out'
    tool = fake_photos.load_tool()
    tool.main(['--tiny', '--out', str(out), '--downloads', str(out.parent / 'downloads')])
    return out


@pytest.mark.parametrize('name', SIDES)
def test_data_and_model_fit(photos, monkeypatch, project_root, name):
    monkeypatch.setenv('FINOLA_PHOTOS', str(photos))
    cfg = load_config(f'configs/photos/{name}.py')
    init_default_scope(cfg.default_scope)
    check_data(cfg, ('train', 'val'))
    for split in ('train', 'val'):
        data = DATASETS.build(cfg[f'{split}_dataloader'].dataset)
        folder = next(p for p in photos.rglob(split) if str(p).startswith(cfg.data_root))
        assert len(data) == len(list(folder.rglob('*.jpg')))
        sample = data[SampleKey(0, 0, 0) if split == 'train' else 0]
        assert sample['inputs'].shape == (3, SIDES[name], SIDES[name])
    if 'det_' in name:
        file = photos / 'det' / name.partition('_')[2] / 'annotations' / 'instances_val.json'
        names = [category['name'] for category in json.loads(file.read_text())['categories']]
        assert names == list(cfg.classes) == list(data.metainfo['classes'])
        assert cfg.model.bbox_head.num_classes == len(names)
    if name == 'cls_lin':
        assert cfg.model.head.num_classes == len(data.metainfo['classes'])
    MODELS.build(cfg.model)
    assert Image.open(next(folder.rglob('*.jpg'))).mode == 'RGB'
