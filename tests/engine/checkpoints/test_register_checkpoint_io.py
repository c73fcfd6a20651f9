"""Imports leave MMEngine's checkpoint reader and file back ends unchanged; one call changes both.

In separate processes, since other tests make the call.
"""

import subprocess
import sys
import textwrap
from pathlib import Path

import finola_mm

PACKAGES = sorted(
    path.parent.name for path in Path(finola_mm.__file__).parent.glob('*/__init__.py')
)
STATE = """
    from mmengine.fileio.backends import registry_utils
    from mmengine.runner import CheckpointLoader

    def state():
        tables = CheckpointLoader._schemes, registry_utils.backends
        return tuple(map(dict, (*tables, registry_utils.prefix_to_backends)))
"""


def run_python(code):
    code = textwrap.dedent(STATE) + textwrap.dedent(code)
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_imports_change_nothing():
    assert {'det', 'selfsup', 'classification', 'engine', 'apis'} <= set(PACKAGES)
    run_python(f"""
        import importlib

        import mmdet.models, mmpretrain.models  # they register schemes themselves

        before = state()
        for name in {PACKAGES}:
            importlib.import_module(f'finola_mm.{{name}}')
            assert state() == before, name
    """)


def test_the_call_changes_both_and_is_idempotent():
    run_python("""
        from finola_mm.engine import read_checkpoint, register_checkpoint_io

        first = state()
        register_checkpoint_io()
        schemes, backends, prefixes = state()
        assert schemes[''] is read_checkpoint and first[0][''] is not read_checkpoint
        assert backends['local'] is prefixes[''] and backends['local'] is not first[1]['local']
        changed = state()
        register_checkpoint_io()
        assert state() == changed
        for before, after in zip(first, changed):  # other entries are unchanged
            assert {name for name in after if after[name] is not before[name]} <= {'', 'local'}
    """)
