"""tools/check/coco.py on a correct folder and on several kinds of errors."""

import importlib.util
import json
import re

import pytest
from PIL import Image

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


@pytest.mark.parametrize('args', [['a.json'], ['a.py', 'folder']])
def test_half_a_question(check, args):
    assert check(*args)[0] == 2
