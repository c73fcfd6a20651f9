"""Every mistake in a COCO file has its own message; a correct file has none."""

import contextlib
import io
import json
import re

import pytest
from mmengine.config import Config
from PIL import Image

from finola_mm.datasets.validation import (
    check_data,
    check_image,
    find_problems,
    read_annotations,
    sample_images,
)
from finola_mm.errors import UserError
from tests.messages import shows

CLASSES = ('cup', 'dog', 'kite')


def right() -> dict:
    """40 images of 100 x 80, five objects each; ids as in COCO, with gaps."""
    images = [dict(id=10 + 3 * i, file_name=f'{i}.jpg', width=100, height=80) for i in range(40)]
    annotations = [
        dict(
            id=i,
            image_id=images[i % 40]['id'],
            category_id=(1, 2, 5)[i % 3],
            iscrowd=0,
            bbox=[1.0 + i / 10, 2.0, 30.0, 40.5],
            area=900.0,
            segmentation=[[1, 2, 3, 4, 5, 6]],
        )
        for i in range(200)
    ]
    categories = [dict(id=i, name=name) for i, name in zip((1, 2, 5), CLASSES, strict=True)]
    return dict(images=images, annotations=annotations, categories=categories)


def texts(content, classes=CLASSES, fatal=True):
    return [p.text for p in find_problems(content, classes) if p.fatal == fatal]


def test_a_right_file_has_no_problem():
    assert list(find_problems(right(), CLASSES)) == []


def change(records, field, function):
    """Make a function that changes a field of all records."""

    def apply(content):
        for record in content[records]:
            record[field] = function(record[field])

    return apply


def set_first(records, number=1, **fields):
    def apply(content):
        for record in content[records][:number]:
            record.update(fields)

    return apply


def counts(*numbers):
    """A pattern for whole numbers in any order."""
    return ''.join(rf'(?=.*\b{number}\b)' for number in numbers)


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


@pytest.mark.parametrize(
    ('text', 'seen'),
    [
        (json.dumps(right())[:5000], shows('a.json', 'JSON', 5000)),
        ('', shows('a.json', 'JSON')),
        (b'\xff\xfe\x00', shows('a.json', 'UTF-8')),
        ('[1, 2]', shows('list', 'images', 'annotations', 'categories')),
        ('{"images": [], "annotations": []}', shows("['annotations', 'images']", 'categories')),
        (
            json.dumps(dict(right(), images=[dict(id=1, file_name='a.jpg', width=1)])),
            shows('images[0]', 'no height'),
        ),
        (
            json.dumps(dict(right(), annotations=[dict(id=1)])),
            shows('annotations[0]', 'no image_id', 'no category_id', 'no bbox', 'no area'),
        ),
        (
            json.dumps(
                dict(
                    right(),
                    annotations=[
                        dict(id=1, image_id=10, category_id=1, bbox=[1, 2, 3, 4], iscrowd=0)
                    ],
                )
            ),
            shows('annotations[0]', 'area', 'width', 'height'),
        ),
        (json.dumps(dict(right(), annotations=None)), shows('annotations', 'list', 'None')),
        (json.dumps(dict(right(), images=[7])), shows('images[0]') + counts(7)),
        (
            json.dumps(dict(right(), categories=[dict(id=1, name=2)])),
            shows('categories[0]', 'name') + counts(2),
        ),
        (
            json.dumps(dict(right(), categories=[dict(id=[1], name='a')])),
            shows('categories[0]', '[1]') + counts('id'),
        ),
    ],
)
def test_files_of_another_structure(tmp_path, text, seen):
    file = tmp_path / 'a.json'
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=seen):
        read_annotations(file)


# Values of each field by whether they are accepted. The accepted ones are used below.
VALUES = {
    ('annotations', 'bbox'): (
        [[1, 2, 3, 4], [1.5, 2, 30, 4.25]],
        [
            [1, 2, 3],
            [1, 2, 3, 4, 5],
            [[1], [2], [3], [4]],
            [[1, 2, 3, 4]],
            ['1', '2', '3', '4'],
            [1, 2, 3, None],
            [1, 2, 3, True],
            [1, 2, 3, float('nan')],
            [1, 2, float('inf'), 4],
            [1, 2, 10**400, 4],
            [1, 2, 1e300, 4],
            dict(x=1, y=2, w=3, h=4),
            '1 2 3 4',
            '1234',
            None,
            7,
        ],
    ),
    ('annotations', 'area'): (
        [12, 12.5],
        ['12', None, [12], True, float('nan'), float('inf'), 10**400, 1e11, {}],
    ),
    ('annotations', 'iscrowd'): (
        [0, 1, 0.0, 1.0, True, False],
        ['0', '1', 'false', '', None, 2, -1, 0.5, float('nan'), [0], [], {}],
    ),
    ('annotations', 'id'): ([-3, 1000.0, 'a', 10**400], [None, True, 1.5, float('nan'), [1], {}]),
    ('annotations', 'image_id'): ([10, 10.0], [None, True, 1.5, float('inf'), [10], {}]),
    ('annotations', 'category_id'): ([5, 5.0], [None, True, 1.5, float('nan'), [1], {}]),
    ('images', 'id'): ([0, -3, 7.0, 10**400], [None, True, 1.5, [1], {}]),
    ('images', 'width'): (
        [100, 100.0],
        ['100', None, True, 0, -100, 100.5, float('nan'), float('inf'), 10**400, [100]],
    ),
    ('images', 'height'): ([80, 80.0], ['80', None, True, 0, -80, 80.5, float('nan'), [80]]),
    ('images', 'file_name'): (['a b.jpg'], [None, 7, ['a.jpg'], True]),
    ('categories', 'id'): ([0, -3], [None, '1', 1.0, True, [1], 10**400]),
    ('categories', 'name'): (['a b'], [None, 7, ['cup'], True]),
}


def with_value(tmp_path, records, field, value):
    """Write the right file with another value in the third record, and return its path."""
    content = right()
    content[records][2][field] = value
    file = tmp_path / 'a.json'
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize(('records', 'field'), VALUES)
def test_values_of_each_field(tmp_path, records, field):
    """One wrong value is enough for a traceback of mmdet or pycocotools."""
    accepted, refused = VALUES[records, field]
    for value in accepted:
        read_annotations(with_value(tmp_path, records, field, value))
    for value in refused:
        seen = repr(value)[:90]
        with pytest.raises(UserError, match=shows('a.json', f'{records}[2]', field, seen)):
            read_annotations(with_value(tmp_path, records, field, value))


@pytest.mark.parametrize('field', ['bbox', 'area', 'iscrowd', 'category_id', 'id', 'width'])
def test_mmdet_loads_every_accepted_value(tmp_path, field):
    from mmdet.datasets import CocoDataset

    records = 'images' if field == 'width' else 'annotations'
    for value in VALUES[records, field][0]:
        file = with_value(tmp_path, records, field, value)
        with contextlib.redirect_stdout(io.StringIO()):
            data = CocoDataset(
                ann_file=str(file),
                data_prefix=dict(img=''),
                metainfo=dict(classes=CLASSES),
                pipeline=[],
            )
        loaded = [data.get_data_info(i) for i in range(40)]
        assert sum(len(info['instances']) for info in loaded) == 200
        crowd = sum(i['ignore_flag'] for info in loaded for i in info['instances'])
        assert crowd == (field == 'iscrowd' and value == 1)


def test_all_wrong_values_are_in_one_message(tmp_path):
    content = right()
    set_first('annotations', 3, area=None, iscrowd='0')(content)
    set_first('images', width='100')(content)
    (tmp_path / 'a.json').write_text(json.dumps(content))
    seen = shows('None', "'0'", "'100'", 'area', 'iscrowd', 'width') + counts(1, 3, 40, 200)
    with pytest.raises(UserError, match='(?s)' + seen.replace('(?s)', '')):
        read_annotations(tmp_path / 'a.json')


@pytest.mark.parametrize(
    ('encoding', 'seen'),
    [
        ('utf-8-sig', ('UTF-8', 'byte order mark')),
        ('utf-16', ('UTF-16',)),
        ('utf-16-le', ('UTF-16-LE',)),
        ('utf-16-be', ('UTF-16-BE',)),
        ('utf-32', ('UTF-32',)),
        ('latin-1', ('0xfc', 'UTF-8')),
        ('cp1252', ('0xfc', 'UTF-8')),
    ],
)
def test_other_encodings(tmp_path, encoding, seen):
    file = tmp_path / 'a.json'
    content = right()
    content['images'][0]['file_name'] = 'Kühe.jpg'
    file.write_text(json.dumps(content, ensure_ascii=False), encoding='utf-8')
    assert read_annotations(file) == content
    file.write_text(json.dumps(content, ensure_ascii=False), encoding=encoding)
    with pytest.raises(UserError, match=shows(file, *seen)) as error:
        read_annotations(file)
    assert '\n' not in str(error.value)


def test_a_file_of_zeros(tmp_path):
    """After a power cut; it is not reported as UTF-32."""
    (tmp_path / 'a.json').write_bytes(bytes(4096))
    with pytest.raises(UserError, match=shows('a.json', 'JSON') + '(?!.*UTF-32)'):
        read_annotations(tmp_path / 'a.json')


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
    monkeypatch.setenv('RANK', '1')
    check_data(cfg)
    monkeypatch.setenv('RANK', '0')
    with pytest.raises(UserError):
        check_data(cfg)


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
