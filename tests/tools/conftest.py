"""Run the analysis tools in this process, on a small model that their tests share."""

import importlib.util
import sys

import pytest
import torch
from PIL import Image

from tests.tools import stand_in


@pytest.fixture
def load_analysis(project_root):
    """Load the script tools/analysis/name.py as a module."""

    def load(name):
        path = f'tools/analysis/{name}.py'
        spec = importlib.util.spec_from_file_location(f'tools.analysis.{name}', path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def run_analysis(load_analysis, monkeypatch, capsys):
    """Run a tool's main with these arguments; return its standard output."""

    def run(name, *args):
        monkeypatch.setattr(sys, 'argv', [name, *map(str, args)])
        load_analysis(name).main()
        return capsys.readouterr().out

    return run


@pytest.fixture
def linear_model(tmp_path):
    """(config, checkpoint, model) of the stand-in, whose encoder and decoder share a matrix."""
    torch.manual_seed(0)
    model = stand_in.LinearFINOLA(12)
    config, checkpoint = tmp_path / 'linear.py', tmp_path / 'linear.pth'
    config.write_text(stand_in.CONFIG)
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    return config, checkpoint, model


@pytest.fixture
def plain_images(tmp_path):
    """A folder of eight images of one colour each, which the stand-in encodes losslessly."""
    folder = tmp_path / 'plain'
    folder.mkdir()
    generator = torch.Generator().manual_seed(1)
    for i, colour in enumerate(torch.randint(90, 166, (8, 3), generator=generator).tolist()):
        Image.new('RGB', (20, 20), tuple(colour)).save(folder / f'{i}.png')
    return folder
