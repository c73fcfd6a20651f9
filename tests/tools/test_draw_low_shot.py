"""Low-shot lists: class-balanced, reproducible and readable by mmpretrain."""

import importlib.util
import re
from collections import Counter
from pathlib import Path

import pytest
from mmpretrain.datasets import CustomDataset

from tests.messages import shows

TOOL = Path(__file__).parents[2] / 'tools' / 'dataset_converters' / 'draw_low_shot.py'
# images of each class; 200 in all, 50 in the mean
SIZES = {'n01 cat': 50, 'n02 dog': 30, 'n03 owl': 2, 'n04 elk': 118}


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('draw_low_shot', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def src(tmp_path):
    """Class folders with empty files, one of them in a subfolder, and other files."""
    root = tmp_path / 'data' / 'train'
    for name, count in SIZES.items():
        folder = root / name
        (folder / 'more').mkdir(parents=True)
        for i in range(count):
            (folder / ('more' if i == 0 else '') / f'a photo {i}.JPEG').touch()
        (folder / 'notes.txt').touch()
    return root


def lines(path):
    return path.read_text().splitlines()


def per_class(path):
    return Counter(int(line.rpartition(' ')[2]) for line in lines(path))


def numbers(line, *names):
    """Return the numbers of a line, sorted, except those in ``names``, which it must contain."""
    for name in map(str, names):
        assert name in line
        line = line.replace(name, '')
    return sorted(re.findall(r'\d+(?:\.\d+)?', line))


def test_balanced(tool, src, capsys):
    tool.main([str(src), '1', '10', '25'])
    folder = src.parent / 'low_shot'
    assert {path.name for path in folder.iterdir()} == {
        'train_1pct.txt',
        'train_10pct.txt',
        'train_25pct.txt',
    }
    assert per_class(folder / 'train_1pct.txt') == {0: 1, 1: 1, 2: 1, 3: 1}  # 0.5
    assert per_class(folder / 'train_10pct.txt') == {0: 5, 1: 5, 2: 2, 3: 5}
    assert per_class(folder / 'train_25pct.txt') == {0: 12, 1: 12, 2: 2, 3: 12}  # 12.5
    first, second, _ = capsys.readouterr().out.splitlines()[-3:]
    assert numbers(first, folder / 'train_1pct.txt') == ['1', '2.00', '200', '4', '4']
    found = numbers(second, folder / 'train_10pct.txt', 'n03 owl')
    assert found == ['17', '2', '200', '4', '5', '8.50']


def test_the_numbers_of_imagenet(tool):
    """1,281,167 images of 1000 classes."""
    classes = {f'n{i:08d}': [f'{j}' for j in range(1281)] for i in range(999)}
    classes['n99999999'] = [f'{j}' for j in range(1281167 - 999 * 1281)]
    for percent, expected in ((1, 13), (10, 128)):
        assert {len(images) for images in tool.draw(classes, percent, 0)} == {expected}


def test_reproducible_and_nested(tool, src, tmp_path):
    for out, seed in (('a', 0), ('b', 0), ('c', 1)):
        tool.main([str(src), '10', '25', '--out', str(tmp_path / out), '--seed', str(seed)])
    a, b, c = (lines(tmp_path / out / 'train_25pct.txt') for out in 'abc')
    assert a == b != c
    assert set(lines(tmp_path / 'a' / 'train_10pct.txt')) < set(a)
    assert len(set(a)) == len(a)


def test_another_class_changes_no_draw_of_the_others(tool, src, tmp_path):
    classes = tool.find_classes(src)
    more = {**classes, 'n05': [f'n05/{i}.jpg' for i in range(40)]}
    assert tool.draw(more, 10, 0)[:4] == tool.draw(classes, 10, 0)


def test_every_image_has_the_same_chance(tool):
    """Over 2000 seeds, each of 20 images is drawn with probability 4 / 20."""
    classes = {'a': [f'{i}' for i in range(20)]}
    counts = Counter(image for seed in range(2000) for image in tool.draw(classes, 20, seed)[0])
    # 400 expected, deviation sqrt(2000 * 0.2 * 0.8) = 18
    assert len(counts) == 20 and all(abs(count - 400) < 5 * 18 for count in counts.values())


def test_labels_and_paths_are_mmpretrains(tool, src):
    (src / '.ipynb_checkpoints').mkdir()  # would be class 0
    tool.main([str(src), '25'])
    (src / '.ipynb_checkpoints').rmdir()
    root = str(src.parent)
    whole = CustomDataset(data_root=root, data_prefix='train')
    drawn = CustomDataset(data_root=root, data_prefix='train', ann_file='low_shot/train_25pct.txt')
    labels = {whole[i]['img_path']: whole[i]['gt_label'] for i in range(len(whole))}
    assert len(drawn) == 38 and {*labels.values()} == {0, 1, 2, 3}
    for i in range(len(drawn)):
        assert labels[drawn[i]['img_path']] == drawn[i]['gt_label']


def test_a_linked_folder_keeps_its_name_and_place(tool, src, tmp_path, monkeypatch):
    root = tmp_path / 'linked'
    root.mkdir()
    (root / 'train').symlink_to(src.rename(src.with_name('ILSVRC2012_img_train')))
    monkeypatch.chdir(root)
    tool.main(['train', '10'])
    assert len(lines(root / 'low_shot' / 'train_10pct.txt')) == 17
    assert not (src.parent / 'low_shot').exists()


def test_a_list_is_never_overwritten(tool, src, capsys):
    tool.main([str(src), '10'])
    path = src.parent / 'low_shot' / 'train_10pct.txt'
    before, time = path.read_text(), path.stat().st_mtime_ns
    tool.main([str(src), '10'])
    new, old = [line for line in capsys.readouterr().out.splitlines() if str(path) in line]
    assert old != new and {'17', '200'} <= {*numbers(old, path)}
    with pytest.raises(SystemExit, match=shows(path, '--seed', '--out')):
        tool.main([str(src), '10', '--seed', '1'])
    assert (path.read_text(), path.stat().st_mtime_ns) == (before, time)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize('percent', ['0', '100', '-1'])
def test_shares_that_are_none(tool, src, percent, capsys):
    with pytest.raises(SystemExit):
        tool.main([str(src), '--', percent])
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(shows('PERCENT', 0, 100, percent), error)


def test_mistakes_end_in_one_line(tool, tmp_path):
    with pytest.raises(SystemExit, match='nowhere'):
        tool.main([str(tmp_path / 'nowhere'), '1'])
    (tmp_path / 'flat').mkdir()
    (tmp_path / 'flat' / 'a.jpg').touch()
    with pytest.raises(SystemExit, match=shows(tmp_path / 'flat', 'class folders')):
        tool.main([str(tmp_path / 'flat'), '1'])


@pytest.mark.parametrize('name', [' photo/1.jpg', 'cat/a\nb.jpg', 'cat/a\rb.jpg'])
def test_names_that_a_list_cannot_hold_are_refused(tool, tmp_path, name):
    (tmp_path / 'data' / name).parent.mkdir(parents=True)
    (tmp_path / 'data' / name).touch()
    with pytest.raises(SystemExit, match=shows(repr(name))):
        tool.main([str(tmp_path / 'data'), '50'])
    assert not (tmp_path / 'low_shot').exists()
