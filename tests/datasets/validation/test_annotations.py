"""Every mistake in a COCO file has its own message; a correct file has none."""

import json
import re

import pytest
from mmengine.config import Config
from PIL import Image

from finola_mm.datasets.validation import (
    check_data,
    check_image,
    find_problems,
    sample_images,
)
from finola_mm.errors import UserError
from tests.datasets.validation.coco_file import CLASSES, change, counts, right, set_first
from tests.messages import shows


def texts(content, classes=CLASSES, fatal=True):
    return [p.text for p in find_problems(content, classes) if p.fatal == fatal]


def test_a_right_file_has_no_problem():
    assert list(find_problems(right(), CLASSES)) == []


MISTAKES = {
    'duplicate image': (set_first('images', 2, id=10), shows('images', 10) + counts(2)),
    'duplicate annotation': (
        set_first('annotations', 2, id=7),
        shows('annotations') + counts(3, 7),
    ),
    'duplicate category': (
        set_first('categories', 2, id=2),
        shows('categories') + r'.*\b2\b.*\b2\b',
    ),
    'two categories of a name': (
        set_first('categories', 2, name='cup'),
        shows('categories', "'cup'"),
    ),
    'two records of a file': (
        set_first('images', 2, file_name='1.jpg'),
        shows('file_name', '1.jpg'),
    ),
    'categories off by one': (
        change('annotations', 'category_id', lambda i: i - 1),
        shows('category_id', '0, 4', 'adding') + counts(1),
    ),
    'categories off by one, up': (
        change('annotations', 'category_id', lambda i: i + 1),
        shows('category_id', '3, 6', 'subtracting') + counts(1),
    ),
    'categories as text': (
        change('annotations', 'category_id', str),
        shows('category_id', 'numbers'),
    ),
    'images off by one': (
        change('annotations', 'image_id', lambda i: i - 1),
        shows('image_id', 9, 'adding') + counts(1),
    ),
    'images as text': (change('images', 'id', str), shows('image_id', 'strings')),
    'unknown category': (
        set_first('annotations', category_id=77),
        shows('category_id') + counts(1, 200, 77),
    ),
    'unknown image': (
        set_first('annotations', image_id=11),
        shows('image_id') + counts(1, 200, 11),
    ),
    'corners': (
        change('annotations', 'bbox', lambda b: [b[0] + 40, 30, b[0] + 60, 79]),
        shows('x1, y1, x2, y2'),
    ),
    'fractions': (
        change('annotations', 'bbox', lambda b: [0.1, 0.2, 0.3, 0.4]),
        shows('[0.1, 0.2, 0.3, 0.4]', 'fraction'),
    ),
    'outside': (
        set_first('annotations', 3, bbox=[101, 2, 30, 40]),
        shows('area', '[101.0, 2.0, 30.0, 40.0]', '100 x 80') + counts(3, 200),
    ),
    'over the edge': (
        set_first('annotations', 3, bbox=[90, 2, 30, 40]),
        shows('[90.0, 2.0, 30.0, 40.0]', '100 x 80') + counts(3, 200) + '(?!.*area)',
    ),
    'no area': (
        set_first('annotations', 3, area=0),
        shows('field area', 'width times height', '[1.0, 2.0, 30.0, 40.5]') + counts(0, 3, 200),
    ),
    'thin': (
        set_first('annotations', 3, bbox=[1, 1, 0.5, 9]),
        shows('area', '[1.0, 1.0, 0.5, 9.0]') + counts(3, 200),
    ),
    'image ids of two kinds': (
        lambda content: [
            r.update({f: str(r[f])})
            for n, f in (('images', 'id'), ('annotations', 'image_id'))
            for r in content[n]
            if r[f] == 10
        ],
        shows("'10'", 'ids'),
    ),
    'only crowds': (
        change('annotations', 'iscrowd', lambda _: 1),
        shows('iscrowd', '100%') + counts(200),
    ),
    'all ignored': (
        lambda content: [a.update(ignore=1) for a in content['annotations']],
        shows('ignore', '100%') + counts(200),
    ),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_each_mistake_is_named(mistake):
    make, seen = MISTAKES[mistake]
    content = right()
    make(content)
    found = texts(content)
    assert any(re.match(seen, text) for text in found), found


@pytest.mark.parametrize(
    ('classes', 'seen'),
    [
        (('cup', 'dog', 'kite', 'cat'), shows("'cat'", "'kite'") + counts(1, 4)),
        (('Cup', 'Dog', 'Kite'), shows("'Cup'", "'Dog'", "'Kite'") + counts(3)),
        (('dog', 'cup', 'kite'), shows("'cup', 'dog', 'kite'", 'order')),
        ('cup', shows("'cup'", 'tuple')),
    ],
)
def test_classes(classes, seen):
    found = texts(right(), classes)
    assert any(re.match(seen, text) for text in found), found


def test_tolerated_problems_are_reported():
    content = right()
    set_first('annotations', 2, bbox=[1, 1, 0.5, 9])(content)  # 1 % of them
    assert not texts(content)
    (said,) = texts(content, fatal=False)
    assert re.match(shows('area', '[1.0, 1.0, 0.5, 9.0]') + counts(2, 200), said)
    assert not texts(right(), CLASSES[:2])
    (said,) = texts(right(), CLASSES[:2], fatal=False)
    assert re.match(shows("'kite'") + counts(1), said)


def crowds(numbers):
    """The right file, in which the objects with these positions are crowds."""
    content = right()
    for i in numbers:
        content['annotations'][i]['iscrowd'] = 1
    return content


def test_a_large_share_of_crowds_is_reported():
    assert list(find_problems(crowds(range(10)), CLASSES)) == []  # 5 %
    for numbers, seen in ((range(11), '6%'), (range(1, 200), '100%')):
        content = crowds(numbers)
        assert not texts(content)
        (said,) = (text for text in texts(content, fatal=False) if 'iscrowd' in text)
        assert re.match(shows(seen) + counts(len(numbers), 200), said)


def test_only_classes_of_the_config_count_in_the_share_of_crowds():
    content = crowds(range(0, 200, 3))  # the cups
    assert not texts(content)
    assert any(re.match(shows('iscrowd', '100%'), text) for text in texts(content, CLASSES[:1]))


def test_edges_may_be_rounded():
    content = right()
    change('annotations', 'bbox', lambda b: [-0.4, -0.4, 101.2, 80 + b[0] / 20])(content)
    assert list(find_problems(content, CLASSES)) == []


def test_repeated_boxes_are_reported():
    content = right()
    annotations = content['annotations']
    annotations += [dict(annotations[i], id=300 + i) for i in (8, 5)]
    annotations += [dict(annotations[2], id=400, category_id=1)]  # another class, no duplicate
    (problem,) = find_problems(content, CLASSES)
    assert not problem.fatal
    assert re.match(shows('0.99%') + counts(2, 203, 308, 8), problem.text)


def test_no_annotations_at_all():
    content = right()
    content['annotations'] = []
    (said,) = texts(content)
    assert re.match(shows('annotations') + counts(0), said)


@pytest.fixture
def coco(tmp_path):
    """The correct file with its images, in the layout of data/coco."""
    content = right()
    for split in ('train', 'val'):
        (tmp_path / f'{split}2017').mkdir()
        for image in content['images']:
            Image.new('RGB', (100, 80)).save(tmp_path / f'{split}2017' / image['file_name'])
        file = tmp_path / 'annotations' / f'instances_{split}2017.json'
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content))
    return tmp_path


def test_image_files(coco):
    images, folder = right()['images'], coco / 'train2017'
    assert not list(sample_images(images, folder))
    (folder / '0.jpg').unlink()
    (folder / '4.jpg').write_text('no image')
    Image.new('RGB', (50, 40)).save(folder / '8.jpg')
    turned = Image.Exif()
    turned[274] = 6
    Image.new('RGB', (100, 80)).save(folder / '12.jpg', exif=turned)
    (problem,) = sample_images(images, folder)
    assert problem.fatal and re.match(counts(4, 40), problem.text)
    told = [check_image(image, folder) for image in images[:13:4]]
    for text, seen in zip(
        told,
        (
            shows('0.jpg'),
            shows('4.jpg', '8 bytes'),
            shows('8.jpg', '50 x 40', '100 x 80'),
            shows('12.jpg', '80 x 100', '100 x 80', 'EXIF or XMP'),
        ),
        strict=True,
    ):
        assert re.match(seen, text)
    assert not next(sample_images(images, folder, tolerated=0.1)).fatal
    assert not list(sample_images(images[1:4], folder))


def config(root, **inner) -> Config:
    def loader(split):
        return dict(
            dataset=dict(
                type='finola_mm.SeededDataset',
                dataset=dict(
                    type='CocoDataset',
                    data_root=str(root),
                    data_prefix=dict(img=f'{split}2017'),
                    ann_file=f'annotations/instances_{split}2017.json',
                    metainfo=dict(classes=CLASSES),
                    test_mode=split == 'val',
                    **inner,
                ),
            )
        )

    return Config(
        dict(
            default_scope='mmdet',
            model=dict(bbox_head=dict(num_classes=3)),
            train_dataloader=loader('train'),
            val_dataloader=loader('val'),
            val_evaluator=dict(ann_file=f'{root}/annotations/instances_val2017.json'),
        )
    )


def test_a_config_with_right_data_passes(coco):
    check_data(config(coco))


@pytest.mark.parametrize(
    ('option', 'value', 'seen'),
    [
        (
            'train_dataloader.dataset.dataset.metainfo',
            None,
            shows('instances_train2017.json', 77, 80),
        ),
        (
            'model.bbox_head.num_classes',
            80,
            shows('num_classes=80', 3, 'model.bbox_head.num_classes'),
        ),
        ('model.bbox_head', [dict(num_classes=3), dict(num_classes=4)], shows('num_classes=4')),
        ('val_evaluator.ann_file', 'other.json', shows('instances_val2017.json', 'other.json')),
    ],
)
def test_a_config_that_does_not_fit(coco, option, value, seen):
    cfg = config(coco)
    cfg.merge_from_dict({option: value})
    with pytest.raises(UserError, match=seen):
        check_data(cfg)


@pytest.mark.parametrize(
    ('loader', 'accepted'),
    [('LoadImageFromFile', 'stored'), ('finola_mm.LoadImageFromFile', 'upright')],
)
def test_images_are_read_as_the_config_reads_them(coco, loader, accepted):
    """mmcv's loader ignores the EXIF rotation of a WebP; boxes must match what is loaded."""
    turned = Image.Exif()
    turned[274] = 6
    for image in (coco / 'val2017').iterdir():
        Image.new('RGB', (100, 80)).save(image, 'webp', exif=turned)
    file = coco / 'annotations' / 'instances_val2017.json'
    for size, (width, height) in dict(stored=(100, 80), upright=(80, 100)).items():
        content = right()
        for image in content['images']:
            image.update(width=width, height=height)
        for annotation in content['annotations']:
            annotation.update(bbox=[1, 1, 30, 20], area=600)
        file.write_text(json.dumps(content))
        cfg = config(coco, pipeline=[dict(type=loader)])
        if size == accepted:
            check_data(cfg, ['val'])
        else:
            with pytest.raises(UserError, match=shows('80 x 100', '100 x 80')):
                check_data(cfg, ['val'])


def test_a_filter_that_removes_every_image(coco):
    for min_size in (80, 81):
        cfg = config(coco, filter_cfg=dict(filter_empty_gt=True, min_size=min_size))
        check_data(cfg, ['val'])  # not filtered
        if min_size == 80:
            check_data(cfg, ['train'])
        else:
            with pytest.raises(UserError, match=shows('min_size=81') + counts(40, 80)):
                check_data(cfg, ['train'])


def test_no_image_of_an_evaluation_may_be_missing(coco):
    cfg = config(coco)
    for split in ('train', 'val'):
        content = right()
        content['images'] += [
            dict(content['images'][0], id=1000 + i, file_name=f'0{i}.jpg') for i in range(160)
        ]
        for i in range(160):
            Image.new('RGB', (100, 80)).save(coco / f'{split}2017' / f'0{i}.jpg')
        file = coco / 'annotations' / f'instances_{split}2017.json'
        file.write_text(json.dumps(content))
        (coco / f'{split}2017' / '2.jpg').unlink()  # one of the 100 images checked
    check_data(cfg, ['train'])
    with pytest.raises(UserError, match=shows('val2017/2.jpg', 100) + counts(1)):
        check_data(cfg, ['val'])


NO_OBJECT = shows('instances_val2017.json') + r'(?=.*(?<!-)\b0\b)'  # of the annotations


def test_a_server_keeps_the_annotations(coco):
    cfg = config(coco)
    file = coco / 'annotations' / 'instances_val2017.json'
    file.write_text(json.dumps(dict(right(), annotations=[])))
    with pytest.raises(UserError, match=NO_OBJECT):
        check_data(cfg, ['val'])
    cfg.val_evaluator.format_only = True
    check_data(cfg, ['val'])
    cfg.val_evaluator = [cfg.val_evaluator, dict(cfg.val_evaluator, outfile_prefix='other')]
    check_data(cfg, ['val'])
    content = right()
    del content['annotations']
    file.write_text(json.dumps(content))
    check_data(cfg, ['val'])
    file.write_text(json.dumps(content), encoding='utf-16')
    with pytest.raises(UserError, match=shows(file, 'UTF-16')):
        check_data(cfg, ['val'])
    file.write_text(json.dumps(dict(content, annotations=[])))
    cfg.val_evaluator[1]['format_only'] = False  # this one needs the annotations
    with pytest.raises(UserError, match=NO_OBJECT):
        check_data(cfg, ['val'])


@pytest.mark.parametrize(
    'name',
    ['CocoDataset', 'V3DetDataset', 'LVISV1Dataset', 'Objects365V1Dataset', 'CocoPanopticDataset'],
)
def test_only_data_sets_that_read_as_coco(coco, name):
    """LVIS and Objects365 order their classes differently, panoptic annotations are segments."""
    cfg = config(coco)
    cfg.train_dataloader.dataset.dataset.type = name
    (coco / 'annotations' / 'instances_train2017.json').write_text('{')
    if name in ('CocoDataset', 'V3DetDataset'):
        with pytest.raises(UserError, match=shows('instances_train2017.json', 'JSON')):
            check_data(cfg, ['train'])
    else:
        check_data(cfg, ['train'])


def test_one_process_reads_for_all(coco, monkeypatch):
    cfg = config(coco)
    (coco / 'annotations' / 'instances_train2017.json').write_text('{')
    for name in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'):
        monkeypatch.setenv(name, '1')
        check_data(cfg)
        monkeypatch.setenv(name, '0')
        with pytest.raises(UserError):
            check_data(cfg)
        monkeypatch.delenv(name)


def test_the_main_process_of_a_group_reads_for_all(coco, monkeypatch):
    """The rank of the group decides, not the variables of a launcher."""
    cfg, module = config(coco), 'finola_mm.datasets.validation.config_data'
    (coco / 'annotations' / 'instances_train2017.json').write_text('{')
    monkeypatch.setattr(f'{module}.is_distributed', lambda: True)
    monkeypatch.setenv('RANK', '0')
    monkeypatch.setattr(f'{module}.is_main_process', lambda: False)
    check_data(cfg)
    monkeypatch.setattr(f'{module}.is_main_process', lambda: True)
    with pytest.raises(UserError):
        check_data(cfg)
