"""tools/check/images.py on folders with some bad files."""

import csv
import importlib.util
import json
import re
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tests.messages import shows


@pytest.fixture
def check(project_root, capsys):
    """Run the tool; return (exit status or message, standard output)."""
    spec = importlib.util.spec_from_file_location('check_images', 'tools/check/images.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    # In this process: a module loaded by path cannot be pickled for others.
    tool.ProcessPoolExecutor = InThisProcess

    def run(*args):
        code = 0
        try:
            tool.main([str(arg) for arg in args])
        except SystemExit as stop:
            code = stop.code
        return code, capsys.readouterr().out

    run.tool = tool
    return run


class InThisProcess:
    def __init__(self, processes, initializer):
        initializer()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def map(self, work, items, chunksize):
        return map(work, items)


@pytest.fixture
def folder(image_folder, tmp_path):
    """Ten images in two class folders; one is truncated, one empty, one HTML."""
    shutil.copytree(image_folder / 'train', tmp_path / 'train')
    whole = (tmp_path / 'train/cat/1.jpg').read_bytes()
    (tmp_path / 'train/cat/1.jpg').write_bytes(whole[: len(whole) // 2])
    (tmp_path / 'train/cat/2.jpg').write_bytes(b'')
    (tmp_path / 'train/dog/3.jpg').write_text('<html>404</html>')
    return tmp_path / 'train'


def total(said):
    """Return the numbers of the last line."""
    return re.findall(r'\d+(?:\.\d+)?%?', said.splitlines()[-1])


def line_on(path, said):
    """Return the only line that names an image."""
    (line,) = (line for line in said.splitlines() if str(path) in line)
    return line


def test_a_folder(check, folder, tmp_path):
    code, said = check(folder, '--processes', 1, '--out', tmp_path / 'new' / 'bad.csv')
    assert code == 1 and {'3', '10', '30.00%'} <= {*total(said)}
    report = (tmp_path / 'new' / 'bad.csv').read_text()
    rows = list(csv.DictReader(report.splitlines()))
    assert [(row['path'], int(row['bytes'])) for row in rows] == [
        (str(folder / name), (folder / name).stat().st_size)
        for name in ('cat/1.jpg', 'cat/2.jpg', 'dog/3.jpg')
    ]
    assert 'OpenCV' in rows[0]['reason'] and rows[0]['path'] not in rows[0]['reason']  # once
    assert rows[1]['reason'] and 'OpenCV' not in rows[1]['reason']
    for row in rows:
        assert re.search(shows(*row.values()), line_on(row['path'], said))
    said = check(folder, '--show', 1)[1]
    (more,) = (line for line in said.splitlines() if '--show' in line)
    assert '2' in more and '--out' in more


def test_several_processes(project_root, folder, tmp_path):
    """The script as users run it; the images are in order."""
    out = tmp_path / 'bad.csv'
    # Not a fork of the tests, whose __main__ the workers could not import.
    command = [sys.executable, 'tools/check/images.py', folder, '--processes=2', '--out', out]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1 and {'3', '10'} <= {*total(ended.stdout)}, ended.stderr
    names = [row['path'] for row in csv.DictReader(out.read_text().splitlines())]
    assert names == [f'{folder}/{name}' for name in ('cat/1.jpg', 'cat/2.jpg', 'dog/3.jpg')]


def test_a_report_that_cannot_be_written_is_named_at_once(check, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(check.tool, 'find_bad_images', pytest.fail)
    (tmp_path / 'file').touch()
    for out in (tmp_path, tmp_path / 'file' / 'bad.csv'):
        code, _ = check(folder, '--out', out)
        assert code.startswith('images: ') and str(tmp_path) in code


def test_all_is_well(check, image_folder):
    code, said = check(image_folder)
    assert code == 0 and {'0', '14'} <= {*total(said)}


def test_an_implausible_range_is_counted_but_usable(check, image_folder, tmp_path):
    folder = tmp_path / 'deep'
    folder.mkdir()
    ramp = np.linspace(0, 4095, 300).reshape(10, 30)
    cv2.imwrite(str(folder / 'good.png'), ramp.astype(np.uint16))
    cv2.imwrite(str(folder / 'dim.tif'), (60000 + ramp / 9).astype(np.uint16))
    cv2.imwrite(str(folder / 'nan.tif'), np.where(ramp > 4000, np.nan, ramp).astype(np.float32))
    code, said = check(folder, '--out', tmp_path / 'report.csv')
    assert code == 0 and {'0', '3'} <= {*total(said)}
    assert re.findall(r'\d+', said.splitlines()[-2]) == ['2', '3']
    assert '60000' in line_on(folder / 'dim.tif', said)
    assert 'NaN' in line_on(folder / 'nan.tif', said)
    rows = list(csv.DictReader((tmp_path / 'report.csv').read_text().splitlines()))
    assert [row['path'] for row in rows] == [f'{folder}/dim.tif', f'{folder}/nan.tif']
    assert list(rows[0]) == ['path', 'bytes', 'reason']
    assert str(folder / 'good.png') in check(folder, '--full-scale', 10**6)[1]


def test_an_annotation_file(check, folder, tmp_path):
    """Missing images and images of another size are reported."""
    sizes = {
        'cat/0.jpg': (90, 70),
        'cat/3.jpg': (70, 90),
        'cat/4.jpg': (90, 70),
        'gone.jpg': (90, 70),
        'dog/3.jpg': (90, 70),
    }
    images = [
        dict(id=i, file_name=name, width=size[0], height=size[1])
        for i, (name, size) in enumerate(sizes.items())
    ]
    file = tmp_path / 'a.json'
    file.write_text(json.dumps(dict(images=images, annotations=[], categories=[])))
    code, said = check(file, folder)
    assert code == 1 and {'3', '5'} <= {*total(said)}
    assert re.search(shows('90 x 70', '70 x 90'), line_on('cat/3.jpg', said))
    assert 'No such file or directory' in line_on(folder / 'gone.jpg', said)
    file.write_text('{')
    said = check(file, folder)[0]
    assert said.startswith('images: ') and re.search(shows(file, 'JSON'), said)


def test_nothing_to_look_at(check, tmp_path):
    said = check(tmp_path)[0]
    assert said.startswith('images: ') and re.search(shows(tmp_path, '.jpg'), said)
    said = check(tmp_path / 'no')[0]
    assert re.fullmatch(rf'images: .*{re.escape(str(tmp_path / "no"))}\b.*', said)
    (tmp_path / 'picture.jpg').touch()
    said = check(tmp_path / 'picture.jpg')[0]
    assert re.search(shows(tmp_path / 'picture.jpg', 'is a file'), said)


@pytest.mark.parametrize('args', [['a.json'], ['folder', 'folder'], ['folder', '--processes', '0']])
def test_half_a_question(check, args):
    assert check(*args)[0] == 2
