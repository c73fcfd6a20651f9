"""tools/check/coco.py on a correct folder and on several kinds of errors."""

import importlib.util
import json
import re

import pytest
from mmengine.config import Config
from PIL import Image

from finola_mm.datasets.validation import check_data
from finola_mm.errors import UserError
from tests.messages import shows


@pytest.fixture
def check(project_root, capsys):
    """Run the tool; return (exit status or message, standard output)."""
    spec = importlib.util.spec_from_file_location('check_coco', 'tools/check/coco.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def run(*args):
        code = 0
        try:
            tool.main([str(arg) for arg in args])
        except SystemExit as stop:
            code = stop.code
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def coco(tmp_path):
    """(annotation file, image folder): four images, a cup in three of them, one a crowd."""
    folder = tmp_path / 'val2017'
    folder.mkdir()
    for i in range(4):
        Image.effect_noise((60, 40), 50).save(folder / f'{i}.jpg')
    content = dict(
        images=[dict(id=i, file_name=f'{i}.jpg', width=60, height=40) for i in range(4)],
        annotations=[
            dict(id=i, image_id=i, category_id=3, bbox=[1, 1, 9, 9], area=81, iscrowd=int(i == 2))
            for i in range(3)
        ],
        categories=[dict(id=3, name='cup')],
    )
    file = tmp_path / 'annotations' / 'instances_val2017.json'
    file.parent.mkdir()
    file.write_text(json.dumps(content))
    return file, folder


def numbers(line):
    """Return the numbers of a line, sorted."""
    return sorted(map(int, re.findall(r'\d+', line)))


def test_all_is_well(check, coco):
    code, said = check(*coco, '--decode')
    assert code == 0
    assert [1, 1, 3, 4] in map(numbers, said.splitlines())
    assert '.jpg' not in said
    assert "metainfo=dict(classes=('cup',))" in said
    assert 'configs/det/own_data.py' in said and "classes = ('cup',)" in said


def test_every_image_is_looked_at(check, coco):
    file, folder = coco
    (folder / '1.jpg').unlink()
    (folder / '3.jpg').write_bytes((folder / '3.jpg').read_bytes()[:-300])
    code, said = check(*coco)
    assert code == 1 and '1.jpg' in said and '3.jpg' not in said
    code, said = check(*coco, '--decode', '--show', 1)
    (more,) = (line for line in said.splitlines() if '--show' in line)
    assert code == 1 and '3.jpg' not in said and numbers(more) == [1]
    assert re.search(shows('3.jpg', 'not a complete image'), check(*coco, '--decode')[1])


def test_what_is_not_there(check, coco):
    file, folder = coco
    assert 'nowhere' in check(file, 'nowhere')[0]
    absent = file.with_name('absent.json')
    assert re.search(shows(absent, file), check(absent, folder)[0])


def test_what_is_wrong_in_the_file(check, coco):
    file, _ = coco
    file.write_text(file.read_text().replace('"category_id": 3', '"category_id": 2'))
    code, said = check(*coco)
    (wrong,) = (line for line in said.splitlines() if 'category_id' in line)
    assert code == 1 and {2, 3} <= {*numbers(wrong)}
    file.write_text('{')
    said = check(*coco)[0]
    assert said.startswith('coco: ') and re.search(shows(file, 'JSON'), said)


def test_a_config(check, coco):
    file, _ = coco
    root = f'val_dataloader.dataset.data_root={file.parent.parent}'
    code, said = check('configs/det/dino_mf.py', '--splits', 'val', '--cfg-options', root)
    assert code == 1 and any({79, 80} <= {*numbers(line)} for line in said.splitlines())
    config = 'configs/selfsup/masked_finola_b.py'
    assert re.search(shows(config, 'COCO', 'train', 'val'), check(config)[0])


CONFIG = """
default_scope = 'mmdet'
model = dict(bbox_head=dict(num_classes={number}))
val_dataloader = dict(dataset=dict(type='CocoDataset', data_root={root!r}, test_mode=True,
    ann_file='annotations/instances_val2017.json', data_prefix=dict(img='val2017'),
    metainfo=dict(classes=('cup',))))
val_evaluator = dict(type='CocoMetric', ann_file={file!r}, format_only={format_only})
"""


@pytest.mark.parametrize(
    ('change', 'number', 'other_file', 'seen'),
    [
        ('', 1, False, ()),
        ('', 4, False, ('num_classes=4',)),
        ('', 1, True, ('other.json',)),
        ("content['annotations'][0]['id'] = 0", 1, False, ()),
        ("content['annotations'][1]['area'] = '81'", 1, False, ("'81'", 'annotations[1]')),
        ("content['annotations'][1]['iscrowd'] = None", 1, False, ('None', 'iscrowd')),
        ("content['images'][1]['width'] = '60'", 1, False, ("'60'", 'images[1]')),
        ("for a in content['annotations']: a['iscrowd'] = 1", 1, False, ('iscrowd', '100%')),
        ("encoding = 'utf-16'", 1, False, ('UTF-16',)),
        ("del content['annotations']", 1, False, ('annotations',)),
    ],
)
def test_the_answer_of_a_run(check, coco, tmp_path, change, number, other_file, seen):
    """A run, the tool with a config and the tool with a file agree."""
    file, folder = coco
    scope = dict(content=json.loads(file.read_text()), encoding='utf-8')
    exec(change, scope)
    file.write_text(json.dumps(scope['content']), encoding=scope['encoding'])
    used = str(file.with_name('other.json') if other_file else file)
    config = tmp_path / 'config.py'
    settings = dict(number=number, root=str(tmp_path), file=used)
    config.write_text(CONFIG.format(**settings, format_only=False))
    reports = [str(check(config, '--splits', 'val'))]
    if number == 1 and not other_file:  # these are not in the file
        reports.append(str(check(file, folder)))
    try:
        check_data(Config.fromfile(config), ['val'])
        reports.append('(0, ')
    except UserError as error:
        reports.append(str(error))
    for report in reports:
        assert report.startswith('(0, ') == (not seen), report
        assert re.match(shows(*(repr(value)[1:-1] for value in seen)), report), report
    config.write_text(CONFIG.format(**settings, format_only=True))
    if change.startswith('del'):  # predictions for a server
        assert check(config, '--splits', 'val')[0] == 0
        check_data(Config.fromfile(config), ['val'])


@pytest.mark.parametrize('args', [['a.json'], ['a.py', 'folder']])
def test_half_a_question(check, args):
    assert check(*args)[0] == 2
