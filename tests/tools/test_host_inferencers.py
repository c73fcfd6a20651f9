"""mmpretrain's inferencers on our configs, whose test data is in a ``SeededDataset``."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmpretrain import FeatureExtractor, ImageClassificationInferencer
from mmpretrain.registry import MODELS
from PIL import Image

from finola_mm.apis.inference import load_inputs
from finola_mm.registry import DATASETS
from tests.conftest import ROOT

CONFIGS = [
    str(path.relative_to(ROOT))
    for folder in ('selfsup', 'classification', 'demo', 'study')
    for path in sorted((ROOT / 'configs' / folder).glob('**/*.py'))
    if not path.name.startswith(('det', 'mocov2'))  # MoCo has no test data
]


class Untouched(BaseModel):
    def forward(self, *args, **kwargs):
        raise NotImplementedError


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'image.png')
    return str(tmp_path / 'image.png')


def built(path):
    """The model of a config, as the inferencers accept it."""
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model).eval()
    model._config = cfg
    return model


@pytest.mark.parametrize('path', CONFIGS)
def test_the_inputs_are_those_of_the_test_data(project_root, image, path):
    """An inferencer finds its transforms in the config of any test data."""
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    model = Untouched()
    model._config = cfg
    inferencer = FeatureExtractor(model)
    (batch,) = inferencer.preprocess([image])
    folder = Path(image).parent
    own = dict(data_root=str(folder), data_prefix='', ann_file='', with_label=False)
    dataset = DATASETS.build({**cfg.test_dataloader.dataset, **own})
    assert torch.equal(batch['inputs'][0], dataset[0]['inputs'])


@pytest.mark.parametrize('name', ['cls_lin', 'cls_tran1_ft', 'masked_finola_b', 'finola'])
def test_features_are_the_models(project_root, image, name):
    torch.manual_seed(0)
    model = built(f'configs/demo/{name}.py')
    (found,) = FeatureExtractor(model)(image)
    ((inputs, _),) = load_inputs(model, model._config, [Path(image)])
    with torch.no_grad():
        expected = model.extract_feat(inputs)
    pairs = [(found[-1], expected[-1])]
    if name.startswith('cls'):  # maps and tokens
        pairs = [(found[-1], expected[-1]), *zip(found[0], expected[0], strict=True)]
    for ours, theirs in pairs:
        assert torch.equal(ours, theirs[0])


def test_classification(project_root, image):
    torch.manual_seed(0)
    model = built('configs/demo/cls_supervised.py')
    names = tuple('abcdefghijkl')
    model._dataset_meta = dict(classes=names)
    (result,) = ImageClassificationInferencer(model)(image)
    ((inputs, _),) = load_inputs(model, model._config, [Path(image)])
    with torch.no_grad():
        scores = model(inputs, mode='tensor')
    expected = model.head.predict(model.extract_feat(inputs))[0].pred_score
    np.testing.assert_array_equal(result['pred_scores'], expected.detach().numpy())
    assert result['pred_class'] == names[scores.argmax()]


def test_indices(project_root, labelled_folder):
    """At either level of the config, as --cfg-options set it."""
    for level in ('dataset', 'dataset.dataset'):
        cfg = Config.fromfile('configs/demo/cls_lin.py')
        init_default_scope(cfg.default_scope)
        cfg.merge_from_dict(
            {
                'test_dataloader.dataset.dataset.data_root': str(labelled_folder),
                f'test_dataloader.{level}.indices': 5,
            }
        )
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
        assert len(dataset) == 5
