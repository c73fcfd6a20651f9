"""Photographs in folds: none is in both train/ and val/, and existing folders are kept."""

import importlib.util
import json
import re

import cv2
import numpy as np
import pytest

from tests.messages import shows


@pytest.fixture
def tool(project_root):
    path = 'tools/dataset_converters/crop_photographs.py'
    spec = importlib.util.spec_from_file_location('crop_photographs', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_a_fold_trains_on_nothing_that_it_holds_out(tool, tmp_path):
    out = tmp_path / 'photographs'
    tool.main(['--out', str(out), '--size', '16', '--crops', '2'])
    held_out = [names(out / f'fold{k}' / 'val') for k in range(3)]
    everything = set().union(*held_out)
    assert sum(map(len, held_out)) == len(everything) == 17  # each photograph once
    for k in range(3):
        assert names(out / f'fold{k}' / 'train') == everything - held_out[k]
    assert any({'motorcycle_left', 'motorcycle_right'} <= names for names in held_out)
    assert json.loads((out / 'photographs.json').read_text())['complete']


def test_tiles_cover_a_photograph_without_overlap(tool):
    image = np.arange(9 * 13 * 3, dtype=np.uint8).reshape(9, 13, 3)
    tiles = list(tool.tiles(image, 3))  # side 3: nothing is resized
    assert len(tiles) == 3 * 4
    rows = [np.concatenate(tiles[i : i + 4], 1) for i in range(0, 12, 4)]
    np.testing.assert_array_equal(np.concatenate(rows), image[:, :12])  # the middle: 0 of 1 left


def test_random_crops_are_parts_of_the_photograph(tool, monkeypatch):
    seen = []
    monkeypatch.setattr(tool, 'resize', lambda part, size: seen.append(part) or part)
    y, x = np.mgrid[:300, :400]
    image = np.stack([y // 2, x // 2, 0 * x], -1).astype(np.uint8)
    for part in tool.random_crops(image, 50, 64, np.random.default_rng(0)):
        assert part.shape[0] == part.shape[1] >= tool.MIN_CROP
        first, last = part[0, 0, :2].astype(int) * 2, part[-1, -1, :2].astype(int) * 2
        assert (abs(last - first - part.shape[:2]) <= 2).all()  # each is halved and rounded down
    sides = {len(part) for part in seen}
    assert min(sides) < 160 and max(sides) > 240 and len(sides) > 20


def test_the_same_arguments_give_the_same_bytes(tool, tmp_path):
    for name in 'ab':
        tool.main(['--out', str(tmp_path / name), '--size', '16', '--crops', '2'])
    files = sorted(p.relative_to(tmp_path / 'a') for p in (tmp_path / 'a').rglob('*.png'))
    assert files
    for file in files:
        assert (tmp_path / 'a' / file).read_bytes() == (tmp_path / 'b' / file).read_bytes()


def test_a_finished_folder_is_left_and_an_unfinished_one_completed(tool, tmp_path, capsys):
    out = tmp_path / 'out'
    arguments = ['--out', str(out), '--size', '16', '--crops', '1']
    tool.main(arguments)
    lost = next((out / 'fold0/val').rglob('*.png'))
    lost.unlink()
    capsys.readouterr()
    tool.main(arguments)
    assert str(out) in capsys.readouterr().out and not lost.exists()
    stamp = json.loads((out / 'photographs.json').read_text())
    (out / 'photographs.json').write_text(json.dumps({**stamp, 'complete': False}))
    tool.main(arguments)
    assert lost.exists()


@pytest.mark.parametrize('content', ['other size', 'a file of mine'])
def test_what_is_not_ours_is_never_touched(tool, tmp_path, content):
    if content == 'other size':
        tool.main(['--out', str(tmp_path), '--size', '24', '--crops', '1'])
    else:
        (tmp_path / 'mine.txt').write_text('keep')
    before = {p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()}
    with pytest.raises(SystemExit, match=shows('crop_photographs: ', tmp_path)):
        tool.main(['--out', str(tmp_path), '--size', '16', '--crops', '1'])
    assert {p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()} == before


def test_a_write_that_fails_is_said(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, 'imwrite', lambda *args: False)
    with pytest.raises(SystemExit, match=shows(tmp_path / 'out', '0000.png')):
        tool.main(['--out', str(tmp_path / 'out'), '--size', '16', '--crops', '1'])


@pytest.mark.parametrize('bad', [('--size', '4'), ('--crops', '0'), ('--seed', '-1')])
def test_arguments_out_of_range_are_named(tool, bad, capsys):
    with pytest.raises(SystemExit):
        tool.main(list(bad))
    assert re.search(shows(*bad), capsys.readouterr().err.splitlines()[-1])
