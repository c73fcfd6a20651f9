"""Missing data and mismatched class folders are reported before a run."""

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS

import finola_mm.selfsup  # noqa: F401  registers ImageFolder
from finola_mm.datasets.validation import check_data
from finola_mm.errors import UserError
from tests.messages import shows

CONFIG = 'configs/selfsup/masked_finola_b.py'


def config(root, **inner) -> Config:
    inner = dict(dict(type='mmpretrain.CustomDataset', data_prefix='train'), **inner)
    dataset = dict(type='x', dataset=dict(data_root=str(root), **inner))
    return Config(dict(train_dataloader=dict(dataset=dataset), missing_data_hint='Put it there.'))


def test_data_in_place_passes(image_folder):
    check_data(config(image_folder))


@pytest.mark.parametrize(
    ('inner', 'seen'),
    [
        (dict(data_prefix='tarin'), 'tarin'),
        (dict(ann_file='list.txt'), 'list.txt'),
        (dict(data_prefix=dict(img='images')), 'images'),
    ],
)
def test_missing_data_is_named_with_the_remedy(image_folder, inner, seen):
    cfg = config(image_folder)
    cfg.train_dataloader.dataset.dataset.update(inner)
    with pytest.raises(UserError, match=shows(image_folder / seen)) as error:
        check_data(cfg)
    assert 'Put it there.' in str(error.value)


def test_a_folder_set_beside_the_wrapped_data_set(image_folder):
    """SeededDataset passes it on."""
    cfg = config(image_folder)
    cfg.train_dataloader.dataset.update(type='finola_mm.SeededDataset', data_prefix='tarin')
    with pytest.raises(UserError, match=shows(image_folder / 'tarin')):
        check_data(cfg)


def test_a_folder_without_images(tmp_path):
    (tmp_path / 'train' / 'cat').mkdir(parents=True)
    (tmp_path / 'train' / 'cat' / 'notes.txt').touch()
    (tmp_path / 'train' / 'cat' / '._0.jpg').touch()
    seen = shows(tmp_path / 'train', '1 .txt', '1 hidden', 'Put it there.')
    with pytest.raises(UserError, match=seen):
        check_data(config(tmp_path))


def test_the_real_config_without_data(project_root, monkeypatch, tmp_path):
    monkeypatch.setenv('FINOLA_IMAGENET', str(tmp_path / 'nowhere'))
    with pytest.raises(UserError, match=shows(tmp_path / 'nowhere/train', 'FINOLA_IMAGENET')):
        check_data(Config.fromfile(CONFIG))


def test_a_list_of_another_form_is_shown(image_folder, tmp_path):
    labelled, empty, right = (tmp_path / name for name in ('labelled', 'empty', 'right'))
    labelled.write_text('cat/0.jpg 0\ncat/1.jpg 0\n')
    empty.touch()
    right.write_text('cat/0.jpg\n')
    check_data(config(image_folder, ann_file=str(right), with_label=False))
    for file, seen in ((labelled, 'train/cat/0.jpg 0'), (empty, 'train')):
        with pytest.raises(UserError, match=shows(image_folder / seen)):
            check_data(config(image_folder, ann_file=str(file), with_label=False))


@pytest.mark.parametrize('kind', ['mmpretrain.CustomDataset', 'finola_mm.ImageFolder'])
@pytest.mark.parametrize(
    'line',
    [
        'cat/1.jpg',
        'cat/1.jpg\t1',
        'cat/1.jpg,1',
        'cat/1.jpg, 1',
        'cat/1.jpg  1',
        'cat/1.jpg cat',
        'cat/1.jpg -1',
        'cat/1.jpg 2',
        '1',
        '',
    ],
)
def test_a_wrong_line_of_a_list_with_labels(image_folder, tmp_path, kind, line):
    file = tmp_path / 'list.txt'
    cfg = config(image_folder, type=kind, ann_file=str(file))
    cfg.model = dict(head=dict(num_classes=2))
    file.write_text('cat/0.jpg 0\r\na cat/1.jpg 1')  # a space within the path
    check_data(cfg)
    file.write_text(f'cat/0.jpg 0\n{line}\ncat/2.jpg\n')
    with pytest.raises(UserError, match=shows(f'line 2 of the list {file}', repr(line), '0 to 1')):
        check_data(cfg)


def test_lists_of_other_forms(image_folder, tmp_path):
    file = tmp_path / 'list.txt'
    cfg = config(image_folder, ann_file=str(file))
    file.write_text('cat/0.jpg 1000\n')  # of a model without num_classes
    check_data(cfg)
    file.write_text('')
    with pytest.raises(UserError, match=shows(f'line 1 of the list {file}', "''")):
        check_data(cfg)
    cfg.train_dataloader.dataset.dataset.with_label = False
    file.write_text('cat/0.jpg\n\ncat/1.jpg\n')
    with pytest.raises(UserError, match=shows(f'line 2 of the list {file}', "''")):
        check_data(cfg)


def test_remote_data_is_not_checked():
    check_data(config('s3://bucket/imagenet'))


def classes(root, number=None, **folders) -> Config:
    """A config of up to three splits, with the named class folders and an image in each."""
    loaders = {}
    for split, names in folders.items():
        for name in names:
            (root / split / name).mkdir(parents=True)
            (root / split / name / '0.jpg').touch()
        data = dict(type='CustomDataset', data_root=str(root), data_prefix=split)
        loaders[f'{split}_dataloader'] = dict(dataset=dict(type='x', dataset=data))
    model = dict(head=dict(num_classes=number), data_preprocessor=dict(num_classes=number))
    return Config(dict(default_scope='mmpretrain', model=model if number else {}, **loaders))


def test_the_same_class_folders_everywhere(tmp_path):
    check_data(classes(tmp_path, 3, train='cab', val='abc', test='bca'))


@pytest.mark.parametrize('split', ['val', 'test'])
def test_other_class_folders_would_shift_the_labels(tmp_path, split):
    cfg = classes(tmp_path, 3, **{'train': 'qbc', split: 'bcde'})
    seen = shows(tmp_path / 'train', tmp_path / split, 'd, e') + r'(?=.*\bq\b)'
    with pytest.raises(UserError, match=seen):
        check_data(cfg)
    check_data(cfg, ['train'])
    data = cfg[f'{split}_dataloader'].dataset.dataset
    (tmp_path / 'list.txt').write_text('b/0.jpg 1\n')
    data.ann_file = str(tmp_path / 'list.txt')  # labels come from the list
    check_data(cfg)


def test_a_class_that_only_the_training_has(tmp_path):
    folders = dict(train=[f'{i}' for i in range(6)], val='5')
    seen = shows(tmp_path / 'train', tmp_path / 'val') + r'.*0, 1, 2\b.*\b2\b'
    with pytest.raises(UserError, match=seen):
        check_data(classes(tmp_path, **folders))


def test_class_folders_are_those_of_the_data_set(tmp_path):
    """Empty folders count, hidden folders and files do not."""
    cfg = classes(tmp_path, 3, train=['a', 'b', '.hidden', 'empty'])
    (tmp_path / 'train' / 'empty' / '0.jpg').unlink()
    (tmp_path / 'train' / 'notes.txt').touch()
    init_default_scope('mmpretrain')
    data = cfg.train_dataloader.dataset.dataset
    assert DATASETS.build(data).CLASSES == ('.hidden', 'a', 'b', 'empty')
    with pytest.raises(UserError, match=shows(tmp_path / 'train', '.hidden', 'CustomDataset')):
        check_data(cfg)
    data.type = 'finola_mm.ImageFolder'
    assert DATASETS.build(data).CLASSES == ('a', 'b', 'empty')
    check_data(cfg)


@pytest.mark.parametrize('split', ['train', 'test'])
def test_the_number_of_classes(tmp_path, split):
    cfg = classes(tmp_path, 1000, **{split: 'abc'})
    remedy = 'model.head.num_classes=3 model.data_preprocessor.num_classes=3'
    seen = shows(tmp_path / split, 3, 'num_classes=1000', f'--cfg-options {remedy}')
    with pytest.raises(UserError, match=seen) as error:
        check_data(cfg, [split])
    said = str(error.value).replace(remedy, '')
    assert 'head' in said and 'data_preprocessor' in said
    cfg.model.head.num_classes = 3
    with pytest.raises(UserError, match=seen) as error:
        check_data(cfg, [split])
    said = str(error.value).replace(remedy, '')
    assert 'head' not in said and 'data_preprocessor' in said
    cfg.model.data_preprocessor.num_classes = 3
    check_data(cfg, [split])


def test_top_5_of_three_classes(tmp_path):
    """Otherwise the evaluator fails at the first validation."""
    cfg = classes(tmp_path, 1000, train='abc', val='abc', test='abc')
    cfg.val_evaluator = cfg.test_evaluator = dict(type='Accuracy', topk=(1, 5))
    remedy = 'val_evaluator.topk=1 test_evaluator.topk=1'
    with pytest.raises(UserError, match=shows('num_classes=1000', remedy)) as error:
        check_data(cfg, ['train', 'val'])
    assert 'model.data_preprocessor.num_classes=3' in str(error.value)
    cfg.model.head.num_classes = cfg.model.data_preprocessor.num_classes = 3
    with pytest.raises(UserError, match=shows('topk=(1, 5)', remedy)) as error:
        check_data(cfg, ['train', 'val'])
    assert 'num_classes=1000' not in str(error.value)
    check_data(cfg, ['train'])
    cfg.val_evaluator.topk = 1
    check_data(cfg, ['train', 'val'])
    with pytest.raises(UserError, match=shows('topk=(1, 5)', 'test_evaluator.topk=1')):
        check_data(cfg, ['test'])


def test_images_without_class_folders(tmp_path):
    cfg = classes(tmp_path, train='', val='')
    for split in ('train', 'val'):
        (tmp_path / split).mkdir()
        (tmp_path / split / '0.jpg').touch()
    with pytest.raises(UserError, match=shows(tmp_path / 'train')) as error:
        check_data(cfg)
    assert str(tmp_path / 'val') not in str(error.value)  # no complaint about a difference
    for split in ('train', 'val'):  # as in pre-training
        cfg[f'{split}_dataloader'].dataset.dataset.with_label = False
    check_data(cfg)
