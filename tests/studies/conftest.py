import importlib
import sys
import types

import pytest


@pytest.fixture
def studies(project_root, monkeypatch):
    """The modules of studies/, imported as its scripts import each other."""
    monkeypatch.syspath_prepend(str(project_root / 'studies'))
    monkeypatch.chdir(project_root)
    names = [path.stem for path in (project_root / 'studies').glob('*.py')]
    yield types.SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    for name in names:
        sys.modules.pop(name)
