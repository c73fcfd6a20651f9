"""Exported encoders and detectors against PyTorch, and models that cannot be exported."""

import importlib.util
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from finola_mm.apis import export_formats as formats
from finola_mm.functional.compat import EXPORTS_ONNX
from tests.conftest import needs_new_exporter
from tests.messages import shows
from tests.tools import small_detector

pytestmark = pytest.mark.skipif(not EXPORTS_ONNX, reason='ONNX export requires torch 2.6')


@pytest.fixture
def export(project_root):
    """Load tools/deployment/export.py as a module."""
    spec = importlib.util.spec_from_file_location('export', 'tools/deployment/export.py')
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


@needs_new_exporter
@pytest.mark.slow
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


@needs_new_exporter
@pytest.mark.slow
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


def options(*names):
    """Skip where a package of a format is missing; return the format's arguments."""
    for name in formats.PACKAGES[names[0]]:
        pytest.importorskip(name)
    return ['--format', *names, '--cfg-options', *small_detector.MODEL]


def test_a_wrong_graph_is_not_written(export, checkpoint, tmp_path, monkeypatch):
    """The comparison fails and no file remains."""
    monkeypatch.setattr(formats, 'export_onnx', lambda _, file, **__: file.write_bytes(b'graph'))
    monkeypatch.setattr(formats, 'largest_difference', lambda *_: 0.1)
    monkeypatch.setitem(formats.LOADERS, 'onnx', lambda _: lambda images: [])
    with pytest.raises(SystemExit, match=shows('1.0e-01', '0.001')):
        export.main(
            [small_detector.CONFIG, str(checkpoint), str(tmp_path / 'x.onnx'), *options('onnx')]
        )
    assert not list(tmp_path.glob('*onnx*'))


@pytest.mark.slow
@pytest.mark.parametrize('name', ['openvino', 'ncnn', 'torchscript'])
def test_formats(export, checkpoint, detector, tmp_path, name):
    """Boxes and scores of the file equal those of mmdet's head."""
    out = tmp_path / f'small{formats.SUFFIXES[name]}'
    size = ['--size', '61', '83', '--batch', '1']
    export.main([small_detector.CONFIG, str(checkpoint), str(out), *size, *options(name)])
    assert not list(tmp_path.glob('.*'))
    images = torch.from_numpy(random_images(1, 3, 61, 83))
    boxes, scores, *labels = formats.LOADERS[name](out)(images)
    with torch.no_grad():
        logits, relative = detector(normalised(detector, images.numpy()), mode='tensor')
    expected = logits[-1].softmax(2)[..., :-1]
    if labels:
        assert torch.equal(labels[0], expected.argmax(2))
        expected = expected.amax(2)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
    corners = bbox_cxcywh_to_xyxy(relative[-1]) * torch.tensor([83, 61, 83, 61])
    corners = corners.clamp(min=0).minimum(torch.tensor([83, 61, 83, 61]))
    torch.testing.assert_close(boxes, corners, rtol=1e-4, atol=1e-2)


@pytest.mark.slow
def test_coreml_has_the_outputs(export, checkpoint, tmp_path):
    out = tmp_path / 'small.mlpackage'
    size = ['--size', '64', '96']
    export.main([small_detector.CONFIG, str(checkpoint), str(out), *size, *options('coreml')])
    assert out.is_dir()
    spec = pytest.importorskip('coremltools').utils.load_spec(str(out))
    found = {o.name: list(o.type.multiArrayType.shape) for o in spec.description.output}
    assert found == dict(boxes=[1, 8, 4], scores=[1, 8], labels=[1, 8])


@pytest.mark.slow
@pytest.mark.parametrize('calibrated', [False, True])
def test_int8(export, checkpoint, tmp_path, calibrated):
    """The file is smaller, and its outputs are near those of float32."""
    rng = np.random.default_rng(0)
    for i in range(3):
        pixels = rng.integers(0, 256, (70, 90, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'{i}.png')
    size = ['--size', '64', '96', '--batch', '1']
    data = ['--calibration', str(tmp_path)] if calibrated else []
    files = {}
    for kind, quantize in ((32, []), (8, ['--int8', *data])):
        files[kind] = tmp_path / f'{kind}.onnx'
        arguments = [str(checkpoint), str(files[kind]), *size, *quantize, *options('onnx')]
        export.main([small_detector.CONFIG, *arguments])
    types = {tensor.data_type for tensor in onnx.load(files[8]).graph.initializer}
    assert onnx.TensorProto.INT8 in types
    assert files[8].stat().st_size < 0.7 * files[32].stat().st_size
    images = random_images(1, 3, 64, 96)
    exact, near = run(files[32], images), run(files[8], images)
    np.testing.assert_allclose(near['scores'], exact['scores'], atol=0.1)
    assert np.abs(near['boxes'] - exact['boxes']).mean() < 5


@pytest.mark.parametrize(
    ('arguments', 'values'),
    [
        (['--format', 'ncnn'], ('ncnn', '--size')),
        (['--format', 'torchscript', '--int8', '--size', '64', '64'], ('torchscript', 'onnx')),
        (['--calibration', 'x'], ('--int8', '--size')),
    ],
)
def test_options_that_exclude_each_other(export, checkpoint, tmp_path, arguments, values):
    for name in formats.PACKAGES[arguments[1] if arguments[0] == '--format' else 'onnx']:
        pytest.importorskip(name)
    suffix = formats.SUFFIXES.get(arguments[1], '.onnx')
    command = [str(checkpoint), str(tmp_path / f'x{suffix}'), *arguments]
    with pytest.raises(SystemExit, match=shows(*values)):
        export.main([small_detector.CONFIG, *command, '--cfg-options', *small_detector.MODEL])
