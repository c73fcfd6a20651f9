"""Drawings of detections and of attention; mmdet's inferencer on our configs."""

import importlib.util
import json
import re
import runpy
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer
from mmengine.config import Config
from mmengine.hub import get_config
from PIL import Image

from finola_mm.apis.images import Video
from finola_mm.apis.inference import load_model
from finola_mm.datasets.shapes import NAMES
from tests.messages import shows
from tests.tools import small_detector
from tests.tools.moving_scene import write_video


@pytest.fixture
def tool(project_root):
    """Load the script tools/visualization/name.py as a module."""

    def load(name):
        spec = importlib.util.spec_from_file_location(name, f'tools/visualization/{name}.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def setting(project_root, tmp_path):
    """(checkpoint, folder of two images, --cfg-options)"""
    checkpoint = small_detector.write_checkpoint(tmp_path / 'small.pth')
    scenes = small_detector.write_scenes(tmp_path / 'coco')
    for i in (2, 3):
        (scenes / 'val2017' / f'{i}.jpg').unlink()
    options = ['--cfg-options', *small_detector.MODEL, *small_detector.data_options(scenes)]
    return checkpoint, scenes / 'val2017', options


def test_detect(tool, setting, tmp_path, capsys):
    checkpoint, folder, options = setting
    out = tmp_path / 'out'
    classes = Config.fromfile(small_detector.CONFIG).classes
    arguments = [small_detector.CONFIG, str(checkpoint), str(folder), '--out', str(out), *options]
    (folder / 'broken.jpg').write_bytes(b'no image')
    tool('detect').main(arguments)
    assert f'{folder}/broken.jpg' in capsys.readouterr().out
    for name in ('0', '1'):
        found = json.loads((out / 'preds' / f'{name}.json').read_text())
        assert len(found['bboxes']) == len(found['scores']) == 8
        assert found['names'] == [classes[label] for label in found['labels']]
        boxes = np.array(found['bboxes'])
        assert (boxes >= 0).all() and (boxes[:, ::2] <= 80).all() and (boxes[:, 1::2] <= 60).all()
        assert Image.open(out / 'vis' / f'{name}.jpg').size == (80, 60)
    with pytest.raises(SystemExit, match=shows('--out', out)):
        tool('detect').main(arguments)


def test_images_of_equal_names(tool, setting, tmp_path, capsys):
    """In several folders, with several suffixes, and given twice: none is overwritten."""
    checkpoint, folder, options = setting
    colours = {'cat/a.jpg': 0, 'dog/a.jpg': 80, 'dog/b.jpg': 160, 'dog/b.png': 240}
    for name, value in colours.items():
        (tmp_path / 'in' / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('L', (80, 60), value).save(tmp_path / 'in' / name)
    images = [tmp_path / 'in/dog', tmp_path / 'in', tmp_path / 'in/cat/a.jpg']
    out = ['--out', str(tmp_path / 'out'), '--score', '1']
    tool('detect').main([small_detector.CONFIG, str(checkpoint), *map(str, images), *out, *options])
    assert '4 images' in capsys.readouterr().out
    places = ['cat', 'dog', 'dog/b.jpg', 'dog/b.png']
    for place, (name, value) in zip(places, colours.items(), strict=True):
        picture = Image.open(tmp_path / 'out' / place / 'vis' / Path(name).name).convert('L')
        assert abs(np.asarray(picture).mean() - value) < 10
        assert (tmp_path / 'out' / place / 'preds' / Path(name).with_suffix('.json').name).is_file()
    assert len(list((tmp_path / 'out').rglob('*.json'))) == 4


def test_detect_on_a_turned_image(tool, setting, tmp_path):
    """Upright, and stored turned as a lossless WebP: the same boxes, drawn on the same image."""
    checkpoint, folder, options = setting
    exif = Image.Exif()
    exif[274] = 6
    with Image.open(folder / '0.jpg') as image:
        image.save(tmp_path / 'upright.png')
        stored = image.transpose(Image.Transpose.ROTATE_90)
    stored.save(tmp_path / 'turned.webp', lossless=True, exif=exif)
    files = [str(tmp_path / name) for name in ('upright.png', 'turned.webp')]
    out = tmp_path / 'out'
    config = [small_detector.CONFIG, str(checkpoint)]
    options += ['test_dataloader.dataset.pipeline.0.full_scale=255']  # unknown to mmcv's loader
    tool('detect').main([*config, *files, '--out', str(out), '--score', '0', *options])
    found = [
        json.loads((out / 'preds' / f'{name}.json').read_text()) for name in ('upright', 'turned')
    ]
    assert found[0]['bboxes'] == found[1]['bboxes'] and found[0]['scores'] == found[1]['scores']
    with (
        Image.open(out / 'vis/upright.png') as upright,
        Image.open(out / 'vis/turned.webp') as turned,
    ):
        assert turned.size == upright.size == (80, 60)
        difference = np.asarray(upright).astype(int) - np.asarray(turned.convert('RGB'))
    assert np.abs(difference).mean() < 3  # lossy compression


def test_detect_in_a_video(tool, setting, tmp_path, capsys):
    """The objects of each frame, and its drawing, are those of the same frame as an image."""
    checkpoint, _, options = setting
    write_video(tmp_path / 'clip.mp4', scenes=1, frames=5, size=(60, 80), fps=12.5)
    (tmp_path / 'frames').mkdir()
    for i, frame in enumerate(Video(tmp_path / 'clip.mp4')):
        Image.fromarray(frame).save(tmp_path / f'frames/{i}.png')
    sources = [str(tmp_path / 'clip.mp4'), str(tmp_path / 'frames')]
    out = tmp_path / 'out'
    arguments = [*sources, '--out', str(out), '--batch-size', '2', '--score', '0', *options]
    tool('detect').main([small_detector.CONFIG, str(checkpoint), *arguments])
    assert re.search(shows('5 images', '1 videos'), capsys.readouterr().out)
    drawn = Video(out / 'vis/clip.mp4')
    assert (drawn.fps, drawn.size, drawn.frames) == (12.5, (80, 60), 5)
    lines = (out / 'preds/clip.jsonl').read_text().splitlines()
    for i, (line, picture) in enumerate(zip(lines, drawn, strict=True)):
        found, expected = (
            json.loads(text) for text in (line, (out / f'frames/preds/{i}.json').read_text())
        )
        assert found['labels'] == expected['labels']
        np.testing.assert_allclose(found['bboxes'], expected['bboxes'], atol=1e-3)
        still = np.asarray(Image.open(out / f'frames/vis/{i}.png').convert('RGB'), int)
        assert np.abs(picture - still).mean() < 12  # lossy compression


def test_sources_that_are_no_videos(tool, setting, tmp_path):
    checkpoint, _, options = setting
    (tmp_path / 'text.mp4').write_text('no video')
    for source in (tmp_path / 'text.mp4', tmp_path / 'nowhere.mp4'):
        with pytest.raises(SystemExit, match=shows(source)):
            out = ['--out', str(tmp_path / 'out' / source.stem), *options]
            tool('detect').main([small_detector.CONFIG, str(checkpoint), str(source), *out])


def test_a_checkpoint_of_other_classes(tool, setting, tmp_path):
    """The names in the results would be wrong."""
    checkpoint, folder, options = setting
    content = torch.load(checkpoint, weights_only=False)
    names = tuple(f'name {i}' for i in range(len(NAMES)))
    content['meta']['dataset_meta'] = dict(classes=names)
    torch.save(content, checkpoint)
    arguments = [small_detector.CONFIG, str(checkpoint), str(folder), '--out']
    with pytest.raises(SystemExit, match=shows(checkpoint, 'name 0', NAMES[0])):
        tool('detect').main([*arguments, str(tmp_path / 'out'), *options])


def test_detect_with_a_detector_of_mmdet(tool, setting, tmp_path):
    """A detector named without a scope in the config."""
    _, folder, _ = setting
    options = [
        'model.backbone.arch=small',
        'model.neck.in_channels=[96,256]',
        'test_dataloader.dataset.pipeline.1.scale=(64,64)',
    ]
    config = 'configs/det/retinanet_mf.py'
    checkpoint = small_detector.write_checkpoint(tmp_path / 'retinanet.pth', options[:2], config)
    out = tmp_path / 'out'
    tool('detect').main(
        [
            config,
            str(checkpoint),
            str(folder / '0.jpg'),
            '--out',
            str(out),
            '--cfg-options',
            *options,
        ]
    )
    assert set(json.loads((out / 'preds' / '0.json').read_text())) == {
        'bboxes',
        'scores',
        'labels',
        'names',
    }


def test_detect_refuses(tool, setting, tmp_path):
    checkpoint, folder, options = setting
    detect = tool('detect').main
    out = ['--out', str(tmp_path / 'out'), *options]
    with pytest.raises(SystemExit, match='nowhere'):
        detect([small_detector.CONFIG, str(checkpoint), 'nowhere', *out])
    with pytest.raises(SystemExit, match=r'none\.pth'):
        detect([small_detector.CONFIG, 'none.pth', str(folder), *out])
    classifier = 'configs/demo/cls_supervised.py'
    with pytest.raises(SystemExit, match=shows(classifier, 'ImageClassifier')):
        detect([classifier, str(checkpoint), str(folder), *out[:2]])
    with pytest.raises(SystemExit, match=shows('--out', __file__)):
        detect([small_detector.CONFIG, str(checkpoint), str(folder), '--out', __file__, *options])
    for broken in folder.iterdir():
        broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(SystemExit, match=r'^detect: .*\b2\b'):
        detect([small_detector.CONFIG, str(checkpoint), str(folder), *out])


@small_detector.host_inferencer
@pytest.mark.parametrize('by', ['file', 'name'])
def test_the_host_inferencer(project_root, tmp_path, by):
    """As mmdet's users call it, by file or by MMEngine's name, which works in any folder."""
    config = small_detector.CONFIG
    checkpoint = small_detector.write_checkpoint(tmp_path / 'demo.pth', ())
    folder = small_detector.write_scenes(tmp_path / 'coco') / 'val2017'
    model = config if by == 'file' else get_config(config.replace('configs/', 'finola_mm::'))
    inferencer = DetInferencer(model, str(checkpoint), show_progress=False)
    (found,) = inferencer(str(folder / '0.jpg'))['predictions']
    assert len(found['scores']) == 25
    (box, *_) = found['bboxes']
    assert 0 <= box[0] <= box[2] <= 80 and 0 <= box[1] <= box[3] <= 60


def test_attention(tool, setting, tmp_path, monkeypatch):
    """The recorded weights sum to 1 over the map; cells have the documented size."""
    checkpoint, folder, options = setting
    attention = tool('attention')
    out = tmp_path / 'attention.png'
    maps = []
    record = attention.record_attention
    monkeypatch.setattr(
        attention, 'record_attention', lambda block: maps.append(record(block)) or maps[-1]
    )
    attention.main(
        [
            small_detector.CONFIG,
            str(checkpoint),
            str(folder / '0.jpg'),
            '--out',
            str(out),
            '--queries',
            '4',
            '--stride',
            '8',
            *options,
        ]
    )
    ((seen,),) = maps
    assert seen.shape[:2] == (1, 8)
    torch.testing.assert_close(seen.sum((2, 3)), torch.ones(1, 8))
    picture = Image.open(out)
    width, height = seen.shape[3] * 8, seen.shape[2] * 8  # of the image, rounded up
    scale = picture.width // 3 // (width - 7)  # that of a cell
    assert 320 <= picture.width // 3 < 320 + width
    assert picture.width // 3 in range(scale * (width - 7), scale * width + 1)
    assert picture.height // 2 in range(scale * (height - 7), scale * height + 1)
    with pytest.raises(SystemExit):
        attention.main([small_detector.CONFIG, 'x.pth', 'no.jpg', '--out', str(out)])


def test_attention_is_drawn_where_the_map_has_it(tool, monkeypatch):
    """A position of stride 32 covers 32 pixels, even if the last ones exceed the image."""
    attention = tool('attention')
    weights = torch.zeros(1, 1, 2, 3)
    weights[0, 0, 0, 1] = 1  # its centre: between 15, 16; 47, 48
    monkeypatch.setattr(attention, 'record_attention', lambda block: [weights])
    model = Mock(return_value=(torch.zeros(1, 1, 1, 3), torch.full((1, 1, 1, 4), 0.5)))
    model.decoder.scales = [[None]]
    ((_, _, _, found),) = attention.find_objects(
        model, dict(inputs=torch.zeros(1, 3, 40, 70)), 32, 1
    )
    assert found.shape == (40, 70)
    rows, columns = np.nonzero(found == found.max())
    assert set(rows) == set(range(16)) and set(columns) == {47, 48}


def test_attention_is_what_the_layer_reads(tool, setting):
    """The recorded weights reproduce the output of the fused attention."""
    checkpoint, folder, _ = setting
    attention = tool('attention')
    cfg = Config.fromfile(small_detector.CONFIG)
    cfg.model.decoder.update(arch=(1, 1, 1), dim=32, heads=1, hidden=32, num_queries=8)
    cfg.model.test_cfg.max_per_img = 8
    model = load_model(cfg, str(checkpoint))
    batch = attention.load_image(model, cfg, str(folder / '0.jpg'))
    block, read = model.decoder.scales[1][0], []
    layer = block.to_former.attention

    layer.register_forward_hook(lambda layer, args, output: read.append((args[0][-1], output)))
    seen = attention.record_attention(block)
    with torch.no_grad():
        model(**batch, mode='tensor')
        (value, output), (weights,) = read[0], seen
        values = torch.nn.functional.linear(
            value, layer.in_proj_weight[64:], layer.in_proj_bias[64:]
        )  # (1, HW, 32)
        torch.testing.assert_close(layer.out_proj(weights.flatten(2) @ values), output)


@pytest.mark.parametrize('source, expected', [('0', True), ('a/0', False), ('cam', False)])
def test_only_a_number_is_a_webcam(project_root, source, expected):
    tool = runpy.run_path('tools/visualization/detect.py')
    assert tool['is_webcam'](source) == expected
