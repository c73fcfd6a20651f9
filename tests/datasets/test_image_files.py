"""The images of a folder: the same for the data sets of a run and for all tools."""

import csv
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.fileio import BaseStorageBackend, register_backend
from mmengine.logging import print_log
from mmengine.registry import DATASETS, init_default_scope
from mmpretrain.datasets import CustomDataset
from PIL import Image

from finola_mm.apis import command_line, load_config
from finola_mm.apis.training import build_runner
from finola_mm.datasets import find_images, labelled_data, list_images
from finola_mm.datasets.image_files import IMAGE_SUFFIXES
from finola_mm.datasets.image_folder import ImageFolder
from finola_mm.datasets.validation import check_data
from finola_mm.errors import UserError
from tests.conftest import tiny_options
from tests.messages import shows

ROOT = Path(__file__).parents[2]
NOT_UTF8 = os.fsdecode(b'dog/caf\xe9.jpg')
# Of the folder `odd`: found through the linked folder, too, but not through the link back.
IMAGES = {
    'cat': ['cat/B.JPEG', 'cat/a.jpg', 'cat/c.webp', 'cat/d.TiFF', 'cat/e.avif', 'cat/f.gif'],
    'dog': [NOT_UTF8, 'dog/g.jp2', 'dog/h.png', 'dog/link/k.jpg', 'dog/link/up/l.bmp', 'dog/m.PGM'],
}
if not cv2.haveImageWriter('.avif'):  # OpenCV 4.11 decodes neither AVIF nor GIF
    IMAGES['cat'][-2:] = ['cat/e.png', 'cat/f.bmp']
LEFT_OUT = ['cat/notes.txt', 'dog/more.TXT', 'cat/photo.heic', 'dog/README']
HIDDEN = ['cat/._a.jpg', 'dog/.DS_Store', '.ipynb_checkpoints/a.jpg', 'cat/.git/b.jpg', '._cat']


def load_tool(name):
    spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # for its worker processes
    spec.loader.exec_module(module)
    return module


def write_image(path, i=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = Image.linear_gradient('L').resize((64, 64)).convert('RGB').rotate(10 * i)
    data = io.BytesIO()
    pixels.save(data, Image.registered_extensions()[path.suffix.lower()])
    path.write_bytes(data.getvalue())


@pytest.fixture
def odd(tmp_path):
    """A root of two equal splits, which contain every kind of entry."""
    for split in ('train', 'val'):
        folder, away = tmp_path / 'odd' / split, tmp_path / f'away from {split}'
        for i, name in enumerate([*IMAGES['cat'], *IMAGES['dog']]):
            inside = not name.startswith('dog/link/')
            write_image(folder / name if inside else away / name.removeprefix('dog/link/'), i)
        for name in LEFT_OUT + HIDDEN:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b'no image')
        (folder / 'dog/link').symlink_to(away)
        (away / 'back').symlink_to(folder)
        (folder / 'cat/self').symlink_to('.')
        (folder / 'class').symlink_to('.')
    return tmp_path / 'odd'


def config(name, root, project_root):
    cfg = load_config(str(project_root / 'configs' / f'{name}.py'))
    for split in ('train', 'val', 'test'):
        cfg.merge_from_dict({f'{split}_dataloader.dataset.dataset.data_root': str(root)})
    init_default_scope('mmpretrain')
    return cfg


def samples(dataset, root):
    """Return the (path, label) of all samples; the label is None without labels."""
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    return [(os.path.relpath(info['img_path'], root), info.get('gt_label')) for info in infos]


def of_training(config_name, odd, tmp_path, project_root):
    cfg = config(config_name, odd, project_root)
    return samples(DATASETS.build(cfg.train_dataloader.dataset), odd / 'train')


def of_knn(odd, tmp_path, project_root):
    bank, queries = labelled_data(config('demo/masked_finola_b', odd, project_root))
    assert bank.metainfo['classes'] == queries.metainfo['classes'] == ('cat', 'dog')
    assert samples(bank, odd / 'train') == samples(queries, odd / 'val')
    return samples(bank, odd / 'train')


def of_find_images(odd, tmp_path, project_root):
    found = [str(path.relative_to(odd / 'train')) for path in find_images([str(odd / 'train')])]
    return [(name, None) for name in found]


def of_check(odd, tmp_path, project_root):
    tool = load_tool('check/images')
    folder, records = tool.find_records(tool.parse_args([str(odd / 'train')]))
    assert not [record for record in records if tool.check_record(record, folder)]
    return [(record['file_name'], None) for record in records]


def of_resizing(odd, tmp_path, project_root):
    load_tool('dataset_converters/resize_images').main(
        [str(odd / 'train'), str(tmp_path / 'small'), '--workers', '1']
    )
    made = [os.path.relpath(p, tmp_path / 'small') for p in (tmp_path / 'small').rglob('*.*')]
    return [(name, None) for name in sorted(made) if not name.endswith('.json')]


def of_low_shot(odd, tmp_path, project_root):
    """The lists of all images, as read by training; names that are not UTF-8 are refused."""
    tool = load_tool('dataset_converters/draw_low_shot')
    out = tmp_path / 'lists'
    with pytest.raises(SystemExit, match=r'caf\\udce9'):
        tool.main([str(odd / 'train'), '99.9', '--out', str(out)])
    (odd / 'train' / NOT_UTF8).rename(odd / 'train/dog/café.jpg')
    tool.main([str(odd / 'train'), '99.9', '--out', str(out)])
    cfg = config('classification/lin', odd, project_root)
    dataset = cfg.train_dataloader.dataset
    dataset.dataset.ann_file = str(out / 'train_99.9pct.txt')
    found = samples(DATASETS.build(dataset), odd / 'train')
    return sorted((n.replace('dog/café.jpg', NOT_UTF8), label) for n, label in found)


@pytest.mark.parametrize(
    'list_from',
    [
        partial(of_training, 'selfsup/masked_finola_b'),
        partial(of_training, 'selfsup/mocov2'),
        partial(of_training, 'classification/lin'),
        of_knn, of_find_images, of_check, of_resizing, of_low_shot,
    ],
    ids=['pretraining', 'mocov2', 'probe', 'knn', 'tools', 'check', 'resize', 'low_shot'],
)  # fmt: skip
def test_the_same_images_everywhere(list_from, odd, tmp_path, project_root, capsys):
    found = list_from(odd, tmp_path, project_root)
    assert [name for name, _ in found] == sorted(IMAGES['cat'] + IMAGES['dog'])
    if any(label is not None for _, label in found):
        assert [label for _, label in found] == [0] * 6 + [1] * 6
    (line, *_) = [line for line in capsys.readouterr().out.splitlines() if 'left out' in line]
    assert re.search(shows(odd / 'train', '2 .txt', '1 .heic', '1 without suffix'), line)
    assert re.search(shows('5 hidden', '3 linked in a circle'), line)


@pytest.mark.parametrize('name', ['masked_finola_b', 'cls_lin'])
def test_the_check_of_a_run_sees_two_classes(name, odd, project_root):
    cfg = config(f'demo/{name}', odd, project_root)
    if name == 'cls_lin':
        cfg.model.head.num_classes = cfg.model.data_preprocessor.num_classes = 2
        cfg.val_evaluator.topk = cfg.test_evaluator.topk = 1
    check_data(cfg)


def test_mmpretrains_data_set_would_take_a_hidden_folder_as_a_class(odd, project_root):
    cfg = config('demo/cls_lin', odd, project_root)
    cfg.train_dataloader.dataset.dataset.type = 'CustomDataset'
    with pytest.raises(UserError, match=shows(odd / 'train', '.ipynb_checkpoints', 'ImageFolder')):
        check_data(cfg)


@pytest.mark.parametrize('with_label', [True, False])
def test_ordinary_folders_are_numbered_as_in_mmpretrain(tmp_path, with_label):
    names = ['a-b/2.jpg', 'a/10.png', 'a/9.png', 'a/in/1.jpg', 'B/1.jpg', 'a b/1.jpg', 'empty/x.md']
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    data = [kind(str(tmp_path), with_label=with_label) for kind in (CustomDataset, ImageFolder)]
    theirs, ours = (samples(dataset, tmp_path) for dataset in data)
    assert ours == theirs and len(ours) == 6
    assert data[0].metainfo == data[1].metainfo


OLD = tuple(map(int, cv2.__version__.split('.')[:2])) < (4, 12)


@pytest.mark.skipif(OLD, reason='OpenCV before 4.12 reads fewer formats')
def test_the_suffixes_are_the_formats_that_opencv_decodes():
    """Of everything that Pillow and OpenCV write, in colour and grey."""
    image = np.tile(np.arange(64, dtype=np.uint8)[:, None, None], (1, 64, 3))
    decoded, unread = set(), set()
    for suffix in {*Image.registered_extensions(), *IMAGE_SUFFIXES}:
        for data in (with_pillow(image, suffix), with_opencv(image, suffix)):
            if data:
                whole = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
                (unread if whole is None else decoded).add(suffix)
    assert decoded - set(IMAGE_SUFFIXES) == set()
    assert unread - decoded & set(IMAGE_SUFFIXES) == set()
    assert decoded >= set(IMAGE_SUFFIXES) - {'.pxm'}  # .pxm: no writer; OpenCV names it as .ppm's


def with_pillow(image, suffix):
    data = io.BytesIO()
    try:
        Image.fromarray(image).save(data, Image.registered_extensions().get(suffix, ''))
    except (KeyError, OSError, ValueError):
        return None
    return data.getvalue()


def with_opencv(image, suffix):
    image = image[..., 0] if suffix in ('.pgm', '.pbm') else image
    image = image.astype(np.float32) if suffix in ('.pfm', '.hdr', '.pic') else image
    try:
        return cv2.imencode(suffix, image)[1].tobytes()
    except cv2.error:
        return None


def test_images_outside_class_folders_and_empty_classes(tmp_path, capsys):
    for name in ('cat/1.jpg', '2.jpg', '3.webp', 'dog/notes.txt'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert samples(ImageFolder(str(tmp_path)), tmp_path) == [('cat/1.jpg', 0)]
    assert re.search(shows(tmp_path, '2 images outside', '2.jpg', 'dog'), capsys.readouterr().out)
    (tmp_path / 'cat/1.jpg').unlink()
    with pytest.raises(UserError, match=shows(tmp_path)):
        ImageFolder(str(tmp_path))
    with pytest.raises(UserError, match=shows(tmp_path, 2, 3)):
        write_image(tmp_path / 'cat/1.png')
        ImageFolder(str(tmp_path), metainfo=dict(classes=('a', 'b', 'c')))


def test_a_folder_without_images_shows_what_it_contains(tmp_path):
    for name in ('a.heic', 'b.HEIC', 'c.exr', '.d.jpg'):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=shows(tmp_path, '2 .heic', '1 .exr', '1 hidden')):
        list_images(tmp_path)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    write_image(tmp_path / 'a/1.png')
    scandir = os.scandir

    def deny(path):
        if str(path).endswith('/a'):
            raise PermissionError(13, 'Permission denied', path)
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', deny)
    with pytest.raises(UserError, match=shows(tmp_path / 'a', 'Permission denied')):
        list_images(tmp_path)


def test_broken_links_and_pipes_are_left_out(tmp_path, capsys):
    """Reading a pipe would wait for ever."""
    write_image(tmp_path / '1.png')
    (tmp_path / '2.jpg').symlink_to('nowhere')
    (tmp_path / '3.jpg').symlink_to('3.jpg')
    os.mkfifo(tmp_path / '4.jpg')
    (tmp_path / '5.jpg').symlink_to('4.jpg')
    (tmp_path / '6.jpg').symlink_to('1.png')
    assert list_images(tmp_path) == ['1.png', '6.jpg']
    assert re.search(shows(tmp_path, 'left out 4 '), capsys.readouterr().out)


def test_links_are_followed_as_by_find(tmp_path):
    """Links to each other, upward, to an absolute path, and into a deeper folder."""
    for name in ('a/1.jpg', 'b/2.jpg', 'c/d/e/3.jpg', 'up/4.jpg'):
        write_image(tmp_path / 'root' / name)
    links = {'a/l': '../b', 'b/l': '../a', 'c/d/top': '../..', 'up/p': '../..', 'f': 'c/d/e'}
    for name, target in links.items():
        (tmp_path / 'root' / name).symlink_to(target)
    (tmp_path / 'root/g').symlink_to(tmp_path / 'root/c')
    command = ['find', '-L', str(tmp_path / 'root'), '-type', 'f', '-printf', '%P\\n']
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert list_images(tmp_path / 'root') == sorted(found.splitlines()) != []


@pytest.mark.parametrize('name', ['.hidden.jpg', 'photo.heic', '._x.jpg'])
def test_a_file_that_is_named_is_always_used(tmp_path, name):
    write_image(tmp_path / '1.jpg')
    (tmp_path / '1.jpg').rename(tmp_path / name)
    assert find_images([str(tmp_path / name)]) == [tmp_path / name]


class Remote(BaseStorageBackend):
    """A storage of two folders and three files."""

    def get(self, filepath):
        return b''

    def get_text(self, filepath):
        return ''

    def join_path(self, *parts):
        return '/'.join(part.rstrip('/') for part in parts)

    def list_dir_or_file(self, path, list_dir=True, list_file=True, suffix=None, recursive=False):
        names = ['.trash/1.jpg', 'cat/2.webp', 'cat/.3.jpg', 'dog/4.JPG', 'dog/notes.txt']
        assert '//' not in path.removeprefix('listed://')
        inner = path.partition('bucket')[2].strip('/')
        names = [name.removeprefix(inner).strip('/') for name in names if name.startswith(inner)]
        folders = {name.partition('/')[0] for name in names if '/' in name}
        return [*folders] * list_dir + [name for name in names if '/' not in name] * list_file


def test_remote_folders():
    register_backend('listed', Remote, force=True, prefixes='listed')
    dataset = ImageFolder('listed://bucket')
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert [info['img_path'] for info in infos] == [
        'listed://bucket/cat/2.webp',
        'listed://bucket/dog/4.JPG',
    ]
    assert dataset.CLASSES == ('cat', 'dog')


def test_reports_survive_names_that_are_not_utf8(odd, tmp_path, capsys):
    (odd / 'train' / NOT_UTF8).write_bytes(b'no image')
    with pytest.raises(SystemExit):
        load_tool('check/images').main(
            [str(odd / 'train'), '--out', str(tmp_path / 'bad.csv'), '--processes', '1']
        )
    assert 'dog/caf\\udce9.jpg' in capsys.readouterr().out
    with open(tmp_path / 'bad.csv', encoding='utf-8') as file:
        (row,) = csv.DictReader(file)
    assert row['path'] == str(odd / 'train/dog/caf\\udce9.jpg')


def test_the_log_of_a_run_survives_names_that_are_not_utf8(
    odd, image_folder, project_root, tmp_path
):
    cfg = load_config('configs/demo/masked_finola_b.py', work_dir=str(tmp_path / 'run'))
    for option in tiny_options(image_folder):
        key, value = option.split('=')
        cfg.merge_from_dict({key: json.loads(value.lower()) if value[0] != '/' else value})
    build_runner(cfg)
    print_log(f'Replaced {NOT_UTF8}', logger='current')
    (log,) = (tmp_path / 'run').glob('*/*.log')
    assert 'Replaced dog/caf\\udce9.jpg' in log.read_text(encoding='utf-8')


def test_lists_and_other_names_that_are_not_utf8_end_in_one_line(image_folder, tmp_path):
    list_file = tmp_path / 'list.txt'
    list_file.write_bytes(b'cat/0.jpg 0\ncaf\xe9.jpg 1\n')

    @command_line
    def read():
        ImageFolder(str(image_folder), ann_file=str(list_file))

    @command_line
    def write():
        list_file.write_text(NOT_UTF8, encoding='utf-8')

    for main, seen in ((read, r'caf\xe9.jpg'), (write, r'caf\udce9.jpg')):
        with pytest.raises(SystemExit, match=shows(seen)):
            main()
