"""Batches of image files: order and visible blocks do not depend on the batch size."""

import shutil

import pytest
import torch
from PIL import Image

from finola_mm.apis import load_config
from finola_mm.apis.inference import load_batch, load_inputs, load_metainfo, load_model
from finola_mm.datasets import find_images
from finola_mm.errors import UserError
from finola_mm.registry import MODELS
from tests.messages import shows

CONFIG = 'configs/demo/masked_finola_b.py'


@pytest.fixture
def cfg(project_root):
    return load_config(CONFIG)


def test_files_and_folders_in_order(image_folder, tmp_path):
    shutil.copytree(image_folder / 'train', tmp_path / 'train')
    (tmp_path / 'train/notes.txt').write_text('no image')
    files = find_images([str(image_folder / 'val/3.jpg'), str(tmp_path / 'train')])
    names = [str(path.relative_to(path.parents[1])) for path in files]
    assert names == ['val/3.jpg', *(f'{kind}/{i}.jpg' for kind in ('cat', 'dog') for i in range(5))]
    with pytest.raises(UserError, match=shows(tmp_path / 'nowhere')):
        find_images([str(tmp_path / 'nowhere')])
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match=shows(tmp_path / 'empty', 'no file')):
        find_images([str(tmp_path / 'empty')])


@pytest.fixture
def model(cfg, tmp_path):
    checkpoint = tmp_path / 'model.pth'
    torch.save(MODELS.build(cfg.model).state_dict(), checkpoint)
    return load_model(cfg, str(checkpoint))


def test_batches_do_not_depend_on_their_size(cfg, model, image_folder):
    assert not model.training
    files = find_images([str(image_folder / 'train')])
    ((whole, samples),) = load_inputs(model, cfg, files, batch_size=20, seed=3)
    parts = list(load_inputs(model, cfg, files, batch_size=4, seed=3))
    assert [len(images) for images, _ in parts] == [4, 4, 2]
    assert torch.equal(torch.cat([images for images, _ in parts]), whole)
    offsets = [sample.block_offset for sample in samples]
    assert [s.block_offset for _, part in parts for s in part] == offsets
    assert len(set(offsets)) > 3  # drawn per image
    assert abs(whole.mean()) < 1 and whole.min() < 0  # normalized


def test_offset_for_all(cfg, image_folder):
    files = find_images([str(image_folder / 'val')])
    batch = load_batch(cfg, files, offset=(2, 1))
    assert [sample.block_offset for sample in batch['data_samples']] == [(2, 1)] * 4


def test_a_turned_file_is_read_upright(cfg, image_folder, tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    with Image.open(image_folder / 'val/3.jpg') as image:
        image.save(tmp_path / 'upright.png')
        stored = image.transpose(Image.Transpose.ROTATE_90)
    stored.save(tmp_path / 'turned.webp', lossless=True, exif=exif)
    files = [tmp_path / 'upright.png', tmp_path / 'turned.webp']
    upright, turned = load_batch(cfg, files, offset=(2, 1))['inputs']
    assert torch.equal(upright, turned)


def test_broken_files_are_named_and_skipped(cfg, image_folder, tmp_path, capsys):
    """The others are loaded as without them."""
    page, image = tmp_path / 'page.jpg', image_folder / 'val/0.jpg'
    page.write_bytes(b'<html>')
    (sample,) = load_batch(cfg, [page, image])['inputs']
    assert torch.equal(sample, load_batch(cfg, [image], first=1)['inputs'][0])
    said = capsys.readouterr().out
    assert str(page) in said and 'Error' not in said
    with pytest.raises(UserError, match=shows(page)):
        load_batch(cfg, [page])


def test_class_names_without_data(project_root):
    """Nothing of the data is read; class folders are no recorded names."""
    cfg = load_config('configs/classification/lin.py')
    assert 'classes' not in load_metainfo(cfg) or len(load_metainfo(cfg)['classes']) == 1000
    assert len(load_metainfo(load_config('configs/det/detr_mf_dec211.py'))['classes']) == 80


def test_the_pipeline_of_the_test_data(cfg, image_folder):
    """That of the data set, which tools/test.py uses, and not the variable of the config file."""
    cfg.test_pipeline = []
    batch = load_batch(cfg, find_images([str(image_folder / 'val')]))
    assert len(batch['inputs']) == 4
