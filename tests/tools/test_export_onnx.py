"""ONNX files of an encoder and a detector against PyTorch, and models that cannot be exported."""

import importlib.util
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.export
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from tests.messages import shows
from tests.tools import small_detector

pytestmark = pytest.mark.skipif(
    not hasattr(torch.export, 'Dim'), reason='torch exports to ONNX by torch.export since 2.6'
)


@pytest.fixture
def export(project_root):
    """Load tools/deployment/export_onnx.py as a module."""
    spec = importlib.util.spec_from_file_location('export', 'tools/deployment/export_onnx.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkpoint(project_root, tmp_path):
    return small_detector.write_checkpoint(tmp_path / 'small.pth')


@pytest.fixture
def detector(checkpoint):
    """The same detector in PyTorch."""
    cfg = Config.fromfile(small_detector.CONFIG)
    cfg.model.decoder.update(arch=(1, 1, 1), dim=32, heads=4, hidden=32, num_queries=8)
    cfg.model.test_cfg.max_per_img = 8
    init_default_scope('mmdet')
    model = MODELS.build(cfg.model)
    model.load_state_dict(torch.load(checkpoint, weights_only=True)['state_dict'])
    return model.eval()


def run(file, images):
    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {'images': images}), strict=True))


def random_images(*shape):
    return np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)


def normalised(model, images):
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    return (torch.from_numpy(images) - mean) / std


@pytest.mark.parametrize('form', ['plain', 'spatial'])
def test_encoder_of_any_batch_and_size(export, project_root, tmp_path, form):
    options = [*small_detector.MODEL, f'model.backbone.dynamic_relu={form}']
    checkpoint = small_detector.write_checkpoint(tmp_path / 'small.pth', options)
    weights = torch.load(checkpoint, weights_only=True)['state_dict']
    encoder = tmp_path / 'encoder.pth'  # without the detector around it
    torch.save(
        {
            name.removeprefix('backbone.'): tensor
            for name, tensor in weights.items()
            if name.startswith('backbone.')
        },
        encoder,
    )
    out = tmp_path / 'encoder.onnx'
    export.main(
        [
            small_detector.CONFIG,
            str(encoder),
            str(out),
            '--part',
            'encoder',
            '--cfg-options',
            *options,
        ]
    )
    onnx.checker.check_model(str(out))
    assert [p for p in tmp_path.iterdir() if 'part' in p.name] == []
    cfg = Config.fromfile(small_detector.CONFIG)
    model = MODELS.build(dict(cfg.model.backbone, dynamic_relu=form)).eval()
    model.load_state_dict(torch.load(encoder, weights_only=True))
    mean, std = (
        torch.tensor(cfg.model.data_preprocessor[name]).view(3, 1, 1) for name in ('mean', 'std')
    )
    for shape in ((3, 3, 33, 70), (1, 3, 128, 97)):  # neither is the traced shape
        images = random_images(*shape)
        found = run(out, images)
        assert list(found) == ['stage3', 'out']
        with torch.no_grad():
            maps = model((torch.from_numpy(images) - mean) / std)
        for a, b in zip(found.values(), maps, strict=True):
            torch.testing.assert_close(torch.from_numpy(a), b, rtol=1e-4, atol=1e-5)


def test_detector(export, checkpoint, detector, tmp_path):
    """The outputs, sorted by score, equal those of mmdet's post-processing."""
    out = tmp_path / 'detector.onnx'
    export.main(
        [
            small_detector.CONFIG,
            str(checkpoint),
            str(out),
            '--batch',
            '1',
            '--size',
            '61',
            '83',
            '--cfg-options',
            *small_detector.MODEL,
        ]
    )
    props = {p.key: p.value for p in onnx.load(str(out)).metadata_props}
    assert json.loads(props['classes'])[:2] == ['ball', 'cat']
    images = random_images(1, 3, 61, 83)
    found = {name: torch.from_numpy(value[0]) for name, value in run(out, images).items()}
    meta = dict(
        img_shape=(61, 83),
        ori_shape=(61, 83),
        scale_factor=(1.0, 1.0),
        batch_input_shape=(61, 83),
        img_path='x',
    )
    sample = DetDataSample(metainfo=meta)
    with torch.no_grad():
        (result,) = detector(normalised(detector, images), [sample], mode='predict')
    wanted = result.pred_instances
    order = found['scores'].argsort(descending=True)
    torch.testing.assert_close(found['scores'][order], wanted.scores)
    # Queries of nearly equal scores may be swapped.
    distance = torch.cdist(found['boxes'], wanted.bboxes)
    assert distance.amin(0).max() < 1e-2 and distance.amin(1).max() < 1e-2
    assert sorted(found['labels'].tolist()) == sorted(wanted.labels.tolist())


def test_detector_of_any_batch_and_size(export, checkpoint, detector, tmp_path):
    out = tmp_path / 'detector.onnx'
    export.main(
        [small_detector.CONFIG, str(checkpoint), str(out), '--cfg-options', *small_detector.MODEL]
    )
    for shape in ((3, 3, 64, 224), (1, 3, 128, 32)):  # neither is the traced shape
        images = random_images(*shape)
        found = {name: torch.from_numpy(value) for name, value in run(out, images).items()}
        with torch.no_grad():
            logits, boxes = detector(normalised(detector, images), mode='tensor')
        scores, labels = logits[-1].softmax(2)[..., :-1].max(2)
        torch.testing.assert_close(found['scores'], scores, rtol=1e-4, atol=1e-5)
        assert torch.equal(found['labels'], labels)
        height, width = shape[2:]
        corners = bbox_cxcywh_to_xyxy(boxes[-1]) * torch.tensor([width, height, width, height])
        corners = corners.clamp(min=0).minimum(torch.tensor([width, height, width, height]))
        torch.testing.assert_close(found['boxes'], corners, rtol=1e-4, atol=1e-2)


def test_what_cannot_be_exported(export, checkpoint, tmp_path):
    out = str(tmp_path / 'x.onnx')
    values = ('finola_mm.MobileFormerDETR', 'RetinaNet', '--part encoder')
    with pytest.raises(SystemExit, match=shows(*values)):
        export.main(['configs/det/retinanet_mf.py', str(checkpoint), out, '--part', 'detector'])
    with pytest.raises(SystemExit, match=r'none\.pth'):
        export.main([small_detector.CONFIG, 'none.pth', out])
    for wrong in (['x.onnx', '--size', '20', '64'], ['x.pb'], ['x.onnx', '--batch', '0']):
        with pytest.raises(SystemExit):
            export.main([small_detector.CONFIG, str(checkpoint), *wrong])
    (tmp_path / 'x.onnx').write_text('mine')
    with pytest.raises(SystemExit):
        export.main([small_detector.CONFIG, str(checkpoint), out])
    assert (tmp_path / 'x.onnx').read_text() == 'mine'


def test_a_wrong_graph_is_not_written(export, checkpoint, tmp_path, monkeypatch):
    """The comparison fails and no file remains."""

    class Program:
        class model:
            metadata_props = {}

        def save(self, path, external_data):
            path.write_bytes(b'graph')

    monkeypatch.setattr(export, 'export', lambda *_: Program())
    monkeypatch.setattr(export, 'largest_difference', lambda *_: 0.1)
    with pytest.raises(SystemExit, match=shows('onnxruntime', '1.0e-01')):
        export.main(
            [
                small_detector.CONFIG,
                str(checkpoint),
                str(tmp_path / 'x.onnx'),
                '--cfg-options',
                *small_detector.MODEL,
            ]
        )
    assert not list(tmp_path.glob('*onnx*'))
