import pytest
from mmengine.config import Config

from finola_mm.engine import MissingDataError, check_data

CONFIG = 'configs/selfsup/masked_finola_b.py'


def config(root, **inner) -> Config:
    dataset = dict(type='x', dataset=dict(data_root=str(root), data_prefix='train', **inner))
    return Config(dict(train_dataloader=dict(dataset=dataset), data_remedy='Put it there.'))


def test_data_in_place_passes(image_folder):
    check_data(config(image_folder))


@pytest.mark.parametrize(
    ('inner', 'seen'),
    [
        (dict(data_prefix='tarin'), 'no folder .*tarin'),
        (dict(ann_file='list.txt'), 'no list or annotation file .*list.txt'),
        (dict(data_prefix=dict(img='images')), 'no folder .*images'),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(image_folder, inner, seen):
    cfg = config(image_folder)
    cfg.train_dataloader.dataset.dataset.update(inner)
    with pytest.raises(MissingDataError, match=seen) as error:
        check_data(cfg)
    assert 'Put it there.' in str(error.value)


def test_a_folder_without_images(tmp_path):
    (tmp_path / 'train' / 'cat').mkdir(parents=True)
    (tmp_path / 'train' / 'cat' / 'notes.txt').touch()
    with pytest.raises(MissingDataError, match='holds no image'):
        check_data(config(tmp_path))


def test_the_real_config_without_data(project_root, monkeypatch, tmp_path):
    monkeypatch.setenv('FINOLA_IMAGENET', str(tmp_path / 'nowhere'))
    with pytest.raises(MissingDataError, match='no folder .*nowhere/train.*FINOLA_IMAGENET'):
        check_data(Config.fromfile(CONFIG))


def test_a_list_of_another_form_is_shown(image_folder, tmp_path):
    labelled, empty, right = (tmp_path / name for name in ('labelled', 'empty', 'right'))
    labelled.write_text('cat/0.jpg 0\ncat/1.jpg 0\n')
    empty.touch()
    right.write_text('cat/0.jpg\n')
    check_data(config(image_folder, ann_file=str(right), with_label=False))
    for file, seen in ((labelled, 'cat/0.jpg 0'), (empty, 'train')):
        with pytest.raises(MissingDataError, match=f'begins with .*{seen}.*without labels'):
            check_data(config(image_folder, ann_file=str(file), with_label=False))


def test_remote_data_is_left_to_the_host():
    check_data(config('s3://bucket/imagenet'))
