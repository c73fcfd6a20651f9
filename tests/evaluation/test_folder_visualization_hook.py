"""Pictures of a test are as many as its images, whatever their names, and show their images."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from mmpretrain.structures import DataSample
from mmpretrain.visualization import UniversalVisualizer
from PIL import Image

from finola_mm.errors import UserError
from finola_mm.registry import HOOKS

NAMES = {
    'cam0/a.png': 40,
    'cam1/a.png': 80,
    'cam1/a.jpg': 120,
    'cam1/deep/a.png': 160,
    'b.png': 200,
}


@pytest.fixture
def set_visualization(project_root):
    """``tools/test.py``'s, which completes the visualization hook."""
    spec = importlib.util.spec_from_file_location('tools.test', 'tools/test.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.set_visualization


@pytest.fixture
def images(tmp_path):
    """Grey images, each of another value."""
    for name, value in NAMES.items():
        (tmp_path / 'in' / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (64, 48), (value,) * 3).save(tmp_path / 'in' / name)
    return [str(tmp_path / 'in' / name) for name in NAMES]


class Data:
    def __init__(self, paths):
        self.paths = paths

    def get_data_info(self, index):
        return dict(img_path=self.paths[index])

    def __len__(self):
        return len(self.paths)


def run(hook, paths, samples, work_dir):
    """A test with batches of two, the last of which may be smaller."""
    loader = SimpleNamespace(dataset=Data(paths), batch_size=2)
    runner = SimpleNamespace(test_dataloader=loader, work_dir=str(work_dir), timestamp='now')
    hook.before_test(runner)
    for i in range(0, len(paths), 2):
        inputs = torch.stack([torch.full((3, 48, 64), v) for v in list(NAMES.values())[i : i + 2]])
        batch = dict(inputs=inputs, data_samples=samples[i : i + 2])
        hook.after_test_iter(runner, i // 2, batch, samples[i : i + 2])


def detections(paths):
    empty = InstanceData(bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0))
    return [DetDataSample(metainfo=dict(img_path=p), pred_instances=empty) for p in paths]


def classifications(paths):
    return [
        DataSample(metainfo=dict(img_path=p)).set_pred_score(torch.tensor([0.1, 0.9]))
        for p in paths
    ]


CASES = {
    'mmdet': ('DetVisualizationHook', DetLocalVisualizer, detections, ''),
    'mmpretrain': ('VisualizationHook', UniversalVisualizer, classifications, '_0.png'),
}


@pytest.mark.parametrize('scope', CASES)
@pytest.mark.parametrize('by', ['--show-dir', 'config'])
def test_one_picture_per_image(set_visualization, images, tmp_path, scope, by):
    kind, visualizer, make, suffix = CASES[scope]
    init_default_scope(scope)
    visualizer.get_instance(f'{scope}{by}').dataset_meta = dict(classes=('a', 'b'))
    own = dict(mmdet=dict(draw=True, test_out_dir='out'), mmpretrain=dict(enable=True))[scope]
    hooks = ConfigDict(visualization=dict(type=kind, **(own if by == 'config' else {})))
    if scope == 'mmpretrain':
        hooks.visualization.update(interval=1)
        if by == 'config':
            hooks.visualization.out_dir = str(tmp_path / 'now/out')
    out = tmp_path / ('now/out' if by == 'config' else 'shown')
    set_visualization(hooks, None if by == 'config' else str(out))
    run(HOOKS.build(hooks.visualization), images, make(images), tmp_path)
    assert sum(path.is_file() for path in out.rglob('*')) == len(NAMES)
    for name, value in NAMES.items():
        corner = np.asarray(Image.open(out / f'{name}{suffix}'))[-4:, -4:]
        assert np.abs(corner.astype(int) - value).max() <= 2, name


def test_images_of_one_folder_are_drawn_into_the_folder_itself(set_visualization, images, tmp_path):
    init_default_scope('mmdet')
    DetLocalVisualizer.get_instance('one')
    hooks = ConfigDict(visualization=dict(type='mmdet.DetVisualizationHook'))
    set_visualization(hooks, str(tmp_path / 'out'))
    paths = [path for path in images if path.endswith(('cam1/a.png', 'cam1/a.jpg'))]
    run(HOOKS.build(hooks.visualization), paths, detections(paths), tmp_path)
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['a.jpg', 'a.png']


def test_mmdets_pictures_are_upright(set_visualization, tmp_path):
    init_default_scope('mmdet')
    DetLocalVisualizer.get_instance('upright')
    hooks = ConfigDict(visualization=dict(type='mmdet.DetVisualizationHook'))
    set_visualization(hooks, str(tmp_path / 'out'))
    exif = Image.Exif()
    exif[274] = 6  # turn by 90 degrees
    red = Image.new('RGB', (64, 48), (250, 0, 0))
    red.save(tmp_path / 'turned.webp', exif=exif)
    paths = [str(tmp_path / 'turned.webp')]
    run(HOOKS.build(hooks.visualization), paths, detections(paths), tmp_path)
    drawn = Image.open(tmp_path / 'out/turned.webp').convert('RGB')
    assert drawn.size == (2 * 48, 64)  # without and with predictions
    red, _, blue = drawn.getpixel((24, 32))
    assert red > 200 and blue < 50


def test_other_hooks_and_none(set_visualization, tmp_path):
    hooks = ConfigDict(visualization=dict(type='finola_mm.ReconstructionHook'))
    set_visualization(hooks, 'out')
    assert hooks.visualization == dict(
        type='finola_mm.ReconstructionHook', enable=True, out_dir='out'
    )
    for hooks in (ConfigDict(), ConfigDict(visualization=None)):
        set_visualization(hooks, None)
        with pytest.raises(UserError, match='--show-dir out'):
            set_visualization(hooks, 'out')
