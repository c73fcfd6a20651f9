"""Files that are not COCO files, and values of wrong types, are refused when they are read."""

import contextlib
import io
import json

import pytest

from finola_mm.datasets.validation import read_annotations
from finola_mm.errors import UserError
from tests.datasets.validation.coco_file import CLASSES, counts, right, set_first
from tests.messages import shows


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
